"""What a release is made of, and the checks that it keeps what its names promise."""
