"""Control problems; most have a closed form."""
