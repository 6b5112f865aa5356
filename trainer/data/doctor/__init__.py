"""Everything that is wrong with a data set, found before it costs a night; runs without torch and any environment."""
