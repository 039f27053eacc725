"""What a user is, at rest: the records on the wire, the state of a user, its codec, and the stores that keep it."""
