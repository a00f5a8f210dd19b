"""The program that the page begins with. It is shown there and is no part of the library."""

from twisted.internet import interfaces, protocol, reactor
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer


class Lines(LineReceiver):
    delimiter = b"\n"

    def lineReceived(self, line):
        if line == b"count":
            Numbers(self.transport, range(100_000)).resumeProducing()
        else:
            self.sendLine(line.upper())

    def connectionLost(self, reason):
        print("connectionLost:", reason.getErrorMessage())


@implementer(interfaces.IPushProducer)
class Numbers:
    def __init__(self, transport, numbers):
        self.transport, self.numbers = transport, iter(numbers)
        transport.registerProducer(self, streaming=True)

    def resumeProducing(self):
        self.paused = False
        for number in self.numbers:
            self.transport.write(b"%d\n" % number)
            if self.paused:
                return
        self.transport.unregisterProducer()

    def pauseProducing(self):
        self.paused = True

    def stopProducing(self):
        self.paused = True


if __name__ == "__main__":
    reactor.listenTCP(7007, protocol.Factory.forProtocol(Lines), interface="127.0.0.1")
    reactor.run()
