"""For health checks: fails unless the page named on the command line is served. The image has neither curl nor wget."""

import sys
import urllib.request

PATIENCE_S = 3.0

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
direct.open(sys.argv[1], timeout=PATIENCE_S).close()
