"""What every REST door needs: strict JSON, problems, request ids, limits, idempotency. Knows nothing of trading's tables."""
