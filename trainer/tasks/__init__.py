"""What a run learns: to write, or to tell classes of pictures apart. The loop is the same for each."""
