module.exports = { cacheHandler: require.resolve('memstream/next'), cacheMaxMemorySize: 0 };
