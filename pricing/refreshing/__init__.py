"""Clients of the clouds' public price services: today's rows for a user's own price files."""
