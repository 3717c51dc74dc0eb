"""A learning platform: organizations, their courses, and the people who learn there."""
