"""Python runs this when it starts, where this folder is on its path: in every process that a test starts."""

import no_network

no_network.refuse()
