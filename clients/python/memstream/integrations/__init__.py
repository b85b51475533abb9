"""MemStream as the cache of other frameworks. Each module imports its framework; nothing else imports the modules.

Settings name them as `memstream.django`, `memstream.flask_caching`, `memstream.cachelib` and `memstream.dogpile`.
`memstream.redis` puts a cache in front of Redis.
"""
