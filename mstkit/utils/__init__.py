"""Small helpers that several rooms need; none of them knows a room."""
