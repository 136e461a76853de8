"""Players, court, shuttle, rallies, speeds and zones from one badminton video."""
