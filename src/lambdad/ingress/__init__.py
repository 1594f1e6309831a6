"""What clients and runtimes talk to: HTTP, the AWS protocols, the operations."""
