"""`python -m lambdad` is the `lambdad` command."""

from lambdad.cli.main import main

main(prog_name="lambdad")
