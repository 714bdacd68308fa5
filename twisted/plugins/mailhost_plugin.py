"""The twistd plugin. It imports nothing of ours: it runs whenever anyone lists plugins."""

from twisted.application.service import ServiceMaker

mailhost = ServiceMaker("mailhost", "mailhost.tap", "A complete mail server.", "mailhost")
