#!/usr/bin/env bash
# Builds and tests the bindings to other languages, in clients/, and the examples of examples/.
set -euo pipefail
source "$(dirname "$0")/common.sh"
cd "$root"

usage() {
    cat <<TEXT
usage: languages.sh COMMAND...

  build-node  builds build/memstream.node; needs Node.js 18 or newer, and npm for the headers
  node        the addon's tests: conformance, calls, processes, threads, the cache handler of Next.js
  node-full   those under Node.js 18 and 24 too, the declarations for TypeScript, Keyv's own test suite
  pack-node   makes an npm package with the addon and the library inside: build/npm/memstream-VERSION.tgz
  node-pack   makes that package, and installs and uses it in a folder of its own
  node-next   builds a site with Next.js, and revalidates it across two servers
  lua         nginx with Lua serves what Python stored; needs nginx-light, libnginx-mod-http-lua and lua-cjson
  php         the extension: functions, PSR-16, FPM; needs php8.2-dev, php8.2-cli, php8.2-fpm and php-psr-simple-cache
  together    nginx, Python, PHP, Node.js and C on one cache, each as a user of its own; needs root
  node-bench  MemStream beside ioredis
Exit code: 0 if all passed, 1 if something failed, 77 if this machine lacks what a command needs.
TEXT
}

# lacks WHAT REMEDY: this machine cannot run the command.
lacks() {
    printf 'languages.sh: %s is not installed. %s\n' "$1" "$2" >&2
    exit 77
}

build_library() {
    cmake --preset release --log-level=WARNING >/dev/null && cmake --build --preset release --target "$@" --parallel "$jobs"
}

# ---- Node.js ----

# npm_packages: those of clients/node/package-lock.json, in build/node/. No package runs a script of its own.
npm_packages() {
    command -v npm >/dev/null || lacks npm "Install Node.js 18 or newer with npm."
    mkdir -p build/node
    if ! cmp --silent clients/node/package-lock.json build/node/installed; then
        say "installing what builds and tests the Node.js package"
        cp clients/node/package.json clients/node/package-lock.json build/node/
        npm ci --prefix build/node --ignore-scripts --no-audit --no-fund --loglevel=error
        cp clients/node/package-lock.json build/node/installed
    fi
}

build_node() {
    command -v node >/dev/null || lacks "Node.js" "Install version 18 or newer."
    if [[ ! -e /usr/include/node/node_api.h && ! -e /usr/include/nodejs/src/node_api.h ]]; then
        npm_packages
    fi
    build_library memstream_node
}

# node_tests NODE: the package's tests under that Node.js.
node_tests() {
    local file
    for file in clients/node/test/*.test.js; do
        # Keyv's suite runs under vitest.
        [[ $file == */keyv.test.js ]] || "$1" --test "$file" >"$root/build/node-test.txt" 2>&1 || {
            cat "$root/build/node-test.txt"
            return 1
        }
    done
    say "the Node.js package passes under $("$1" --version)"
}

node_full() {
    local version
    build_node && npm_packages && node_tests node
    for version in 18 24; do
        mkdir -p "build/node$version"
        npm install --prefix "build/node$version" --ignore-scripts --no-audit --no-fund --no-save --loglevel=error \
            "node-linux-$(node -p process.arch)@$version"
        node_tests "build/node$version/node_modules/node-linux-$(node -p process.arch)/bin/node"
    done
    (
        cd build/node
        npx tsc --noEmit --strict --target es2022 --module node16 --types node --typeRoots node_modules/@types \
            "$root/clients/node/test/types.ts"
        cp "$root/clients/node/test/keyv.test.js" .
        MEMSTREAM_NODE_PACKAGE=$root/clients/node npx vitest run --root . --reporter=dot keyv.test.js
    )
}

# pack_node: the addon and a library that needs nothing but glibc go into the package: whoever installs it builds nothing.
pack_node() {
    command -v npm >/dev/null || lacks npm "Install Node.js 18 or newer with npm."
    build_node
    build_library memstream_portable
    rm -rf build/npm
    mkdir -p build/npm/package
    cp -r clients/node/{lib,README.md,*.d.ts,package.json} build/npm/package/
    cp --dereference build/portable/libcache.so build/npm/package/libcache.so.1
    strip --strip-unneeded -o build/npm/package/memstream.node build/memstream.node
    (
        cd build/npm/package
        npm pkg delete devDependencies
        npm pkg set --json "cpu=[\"$(node -p process.arch)\"]" 'libc=["glibc"]'
        npm pack --silent --pack-destination ..
    )
}

node_pack() {
    pack_node
    node clients/node/test/packed.js build/npm/memstream-*.tgz "$(node -p 'require("./clients/node/package.json").version')"
}

node_next() {
    build_node
    mkdir -p build/next
    # Next.js has a compiler in native code, and is large: not among the packages of the other tests.
    npm install --prefix build/next --ignore-scripts --no-audit --no-fund --no-save --loglevel=error \
        next@16.4.6 react@19 react-dom@19
    node clients/node/test/next_site.js build/next
}

# ---- LuaJIT in nginx ----

lua() {
    "$python" tests/lua_cdef_test.py
    build_library memstream_cache
    "$python" clients/lua/test/nginx_test.py "$root" "$root/build"
}

# ---- PHP ----

php() {
    command -v php-config8.2 >/dev/null || lacks php-config8.2 "Install php8.2-dev."
    build_library memstream_php
    "$python" clients/php/tests/php_test.py "$root" "$root/build"
}

# ---- all of them ----

together() {
    command -v php-config8.2 >/dev/null || lacks php-config8.2 "Install php8.2-dev."
    build_node
    build_library memstream_cache memstream_python memstream_php
    "$python" tests/consumers/one_cache.py "$root" "$root/build"
}

(($# > 0)) || set -- --help
for command in "$@"; do
    case $command in
        build-node) build_node ;;
        node) build_node && node_tests node ;;
        node-full) node_full ;;
        pack-node) pack_node ;;
        node-pack) node_pack ;;
        node-next) node_next ;;
        lua) lua ;;
        php) php ;;
        together) together ;;
        node-bench) build_node && npm_packages && node clients/node/bench/compare.js ;;
        -h | --help) usage ;;
        *)
            printf "Invalid command '%s': expected one of those below.\n" "$command" >&2
            usage >&2
            exit 2
            ;;
    esac
done
