"""What a machine should measure: digests of boot programs, reference manifests and their signatures."""
