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

// clientName is the name of the test itself in a network.
const clientName = "client"

// connectTime is the connect timeout of the tests' clients.
const connectTime = 3 * time.Second

// way is one direction between two roles, or between a role and the clients.
type way struct{ from, to string }

// condition is the state of a way: cut, or delayed by a duration. The zero value is a normal way.
type condition struct {
	cut  bool
	slow time.Duration
}

// wires is a mechanism of a network: [namespaces] or [proxies].
type wires interface {
	// set sets the conditions of the given ways, and resets all others. A cut is silent: no side gets an error, and
	// data that is under way arrives after the cut heals.
	set(ways map[way]condition) error
	// canSlow reports whether ways can be slow.
	canSlow() bool
	// stopped returns how many packets, or reads of a proxy, the cuts have stopped so far.
	stopped() (int, error)
	// dial connects a client with a role.
	dial(ctx context.Context, network, address string) (net.Conn, error)
	// listen opens a port in place of a role that does not run.
	listen(role, address string) (net.Listener, error)
	close() error
}

// network connects all roles of a cluster with each other and with the clients. Each direction between two of them can
// be cut or slowed separately. Faults may overlap.
type network struct {
	t         *testing.T
	wires     wires
	transport *http.Transport // of the clients

	mu     sync.Mutex // guards faults
	faults []*outage
}

// outage is a fault that is in effect.
type outage struct {
	ways []way
	condition
}

// newNetwork creates the network of a cluster that has not started, and writes the addresses into its topology. It uses
// namespaces if the machine has them and permits their use. Otherwise it uses proxies, and logs the reason.
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

// newNamespaceNetwork puts every role into its own network namespace.
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

// newProxyNetwork puts a proxy in front of every port of every role.
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

// isolate cuts a role off from others, in both directions.
func (n *network) isolate(role string, others []string) (heal func()) {
	n.t.Helper()
	return n.inject(slices.Concat(waysTo(role, others), waysFrom(role, others)), condition{cut: true})
}

// slow delays all packets between a role and others, in each direction.
func (n *network) slow(role string, others []string, by time.Duration) (heal func()) {
	n.t.Helper()
	return n.inject(slices.Concat(waysTo(role, others), waysFrom(role, others)), condition{slow: by})
}

// waysTo returns the ways from others to a role. It skips the role itself if others contains it.
func waysTo(role string, others []string) (ways []way) {
	for _, other := range others {
		if other != role {
			ways = append(ways, way{other, role})
		}
	}
	return ways
}

// waysFrom returns the ways from a role to others.
func waysFrom(role string, others []string) []way {
	ways := waysTo(role, others)
	for i, w := range ways {
		ways[i] = way{w.to, w.from}
	}
	return ways
}

// close closes the network. All roles must have ended.
func (n *network) close() {
	n.transport.CloseIdleConnections()
	if err := n.wires.close(); err != nil {
		n.t.Error(err)
	}
}
