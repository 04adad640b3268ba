"""Open-loop load tests over HTTP with Locust: speaks HTTP only and knows nothing of models or dollars."""
