"""Files of every accepted shape as rows with their places; nothing here keeps more than one row in memory."""
