"""Dispatcher: schedules jobs, runs them on an executor, retries and cancels them."""
