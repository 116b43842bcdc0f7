package e2e

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// clientName is the test itself among those that a network joins.
const clientName = "client"

// connectTime is how long a client of the tests waits for a connection.
const connectTime = 3 * time.Second

// way is one direction between two roles, or between a role and the clients.
type way struct{ from, to string }

// condition is what a way is like: nothing that goes it arrives, or all of it arrives so much later. Zero is a good
// one.
type condition struct {
	cut  bool
	slow time.Duration
}

// wires are what a network is made of: [namespaces], or [proxies].
type wires interface {
	// set makes the ways named what they are to be, and all others good. A cut is silent: nobody is told, and what is
	// under way goes on when it heals.
	set(ways map[way]condition) error
	// canSlow reports whether ways can be slow.
	canSlow() bool
	// stopped counts what cuts have stopped so far: packets, or a proxy's reads.
	stopped() (int, error)
	// dial connects a client with a role.
	dial(ctx context.Context, network, address string) (net.Conn, error)
	// listen opens a port in the place of a role that does not run.
	listen(role, address string) (net.Listener, error)
	close() error
}

// network stands between all roles of a cluster, and between them and the clients. Each direction between each two of
// them can be cut or slowed by itself; faults may lie over each other.
type network struct {
	t         *testing.T
	wires     wires
	transport *http.Transport // what clients go through

	mu     sync.Mutex // guards faults
	faults []*outage
}

// outage is one fault that is in effect.
type outage struct {
	ways []way
	condition
}

// newNetwork makes the network of a cluster that is not started yet, and writes into its topology how it is reached
// there. Namespaces are preferred; where the machine has none, or no right to them, it is proxies, and the log says
// why.
func newNetwork(t *testing.T, topology *devcluster.Topology) *network {
	t.Helper()
	var why string
	switch settings.network {
	case "proxy":
		why = "CHAINSTORE_E2E_NETWORK=proxy"
	case "", "netns":
		err := haveNamespaces()
		if err == nil {
			return newNamespaceNetwork(t, topology)
		}
		if settings.network != "" {
			t.Fatalf("CHAINSTORE_E2E_NETWORK=netns: no network namespaces: %v", err)
		}
		why = err.Error()
	}
	t.Logf("network faults: the tests' own TCP proxies, one before each port, NOT network namespaces with nft: %s", why)
	return newProxyNetwork(t, topology)
}

// newNamespaceNetwork puts every role into a network namespace of its own.
func newNamespaceNetwork(t *testing.T, topology *devcluster.Topology) *network {
	t.Helper()
	var names []string
	for _, r := range topology.Roles() {
		names = append(names, r.Name)
	}
	ns, err := newNamespaces(names)
	if err != nil {
		t.Fatal(err)
	}
	topology.Adjust = ns.move
	t.Logf("network faults: a network namespace for each role, ways cut by nft in %s", ns.name(hub))
	if !ns.canSlow() {
		t.Logf("NO slow links: %v", ns.noDelays)
	}
	return networkOf(t, ns, topology)
}

// newProxyNetwork puts a proxy before every port of every role.
func newProxyNetwork(t *testing.T, topology *devcluster.Topology) *network {
	t.Helper()
	topology.Adjust = advertiseProxy
	p, err := newProxies(*topology)
	if err != nil {
		t.Fatal(err)
	}
	return networkOf(t, p, topology)
}

func networkOf(t *testing.T, w wires, topology *devcluster.Topology) *network {
	n := &network{t: t, wires: w, transport: &http.Transport{DialContext: w.dial, MaxIdleConnsPerHost: maxClients,
		DisableCompression: true}}
	topology.HTTP = &http.Client{Transport: n.transport}
	return n
}

// inject adds a fault to those in effect.
func (n *network) inject(ways []way, c condition) (heal func()) {
	n.t.Helper()
	o := &outage{ways, c}
	n.change(func() { n.faults = append(n.faults, o) })
	return func() {
		n.t.Helper()
		n.change(func() { n.faults = slices.DeleteFunc(n.faults, func(other *outage) bool { return other == o }) })
	}
}

// change changes the faults in effect.
func (n *network) change(f func()) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	ways := map[way]condition{}
	for _, o := range n.faults {
		for _, w := range o.ways {
			was := ways[w]
			ways[w] = condition{cut: was.cut || o.cut, slow: max(was.slow, o.slow)}
		}
	}
	if err := n.wires.set(ways); err != nil {
		n.t.Fatal(err)
	}
}

// cutWay cuts one direction; heal opens it again.
func (n *network) cutWay(from, to string) (heal func()) {
	n.t.Helper()
	return n.inject([]way{{from, to}}, condition{cut: true})
}

// isolate cuts a role off from others, both ways.
func (n *network) isolate(role string, others []string) (heal func()) {
	n.t.Helper()
	return n.inject(slices.Concat(waysTo(role, others), waysFrom(role, others)), condition{cut: true})
}

// slow has all take longer that goes between a role and others, each way.
func (n *network) slow(role string, others []string, by time.Duration) (heal func()) {
	n.t.Helper()
	return n.inject(slices.Concat(waysTo(role, others), waysFrom(role, others)), condition{slow: by})
}

// waysTo are the ways from others to a role, which may be one of them.
func waysTo(role string, others []string) (ways []way) {
	for _, other := range others {
		if other != role {
			ways = append(ways, way{other, role})
		}
	}
	return ways
}

// waysFrom are the ways from a role to others.
func waysFrom(role string, others []string) []way {
	ways := waysTo(role, others)
	for i, w := range ways {
		ways[i] = way{w.to, w.from}
	}
	return ways
}

// close ends it. No role runs any more.
func (n *network) close() {
	n.transport.CloseIdleConnections()
	if err := n.wires.close(); err != nil {
		n.t.Error(err)
	}
}
