"""Drawing, encoding and scoring many images on one machine or several, as files that can be made in any order."""
