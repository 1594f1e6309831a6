"""The `lambdad` command."""
