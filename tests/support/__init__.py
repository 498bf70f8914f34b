"""What tests share: servers, values and test cases."""
