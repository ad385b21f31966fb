module kiln.dev/tests/cluster/tokens

go 1.25.0
