"""What Nash learning claims: the rows of `rlcore verify nash`, by part."""
