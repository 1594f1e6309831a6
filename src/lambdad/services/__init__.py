"""The behaviour: functions, invocations, environments, logs."""
