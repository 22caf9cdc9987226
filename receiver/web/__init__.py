"""The receiver's page: pictures, charts and controls in a browser.

    receiver's thread:  PageServer.publish(shown, stats)           never waits                         (server.py)
                             |  newest wins
    page's thread:      render once for each view that somebody has -> JPEG                            (pictures.py)
                             |  newest wins, for each browser
                        WebSocket -> page.js draws, then says which picture it has drawn               (viewers.py)
    back:               what a viewer wishes, checked, to the callbacks of whoever owns the page       (messages.py)

aiohttp (extra `live`) is imported when a page is opened; everything else works without it.
"""
