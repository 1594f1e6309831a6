"""What `lambdad bench` and the tests of SPECIFICATION.md's speed have in common: a client, yardsticks, measures."""
