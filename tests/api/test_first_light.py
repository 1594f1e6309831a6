def test_a_function_answers(aws_lambda, unique):
    from daemons import create_python

    name = unique("fn")
    create_python(aws_lambda, name, "def handler(event, context):\n    return {'got': event}\n")
    answer = aws_lambda.invoke(FunctionName=name, Payload=b'{"a": 1}')
    assert answer["Payload"].read() == b'{"got": {"a": 1}}'
