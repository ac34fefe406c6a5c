#!/usr/bin/env bash
# Reports and summaries in headless Chromium. $1: where the pictures go. Further words go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
pictures=${1:?a folder for the pictures}
shift
if [ ! -x /usr/bin/chromium ]; then
  apt-get -q update
  DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install chromium fonts-dejavu-core
fi
MEASLOG_REQUIRE_BROWSER=1 MEASLOG_SCREENSHOTS=$pictures python -m pytest -p no:cacheprovider -q -rs -m browser tests/view/test_browser.py "$@"
ls "$pictures" | wc -l
