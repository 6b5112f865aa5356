"""Shows that an environment is whole and works: files, probes, recorded proofs."""
