package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// silence is how long a test waits before it considers a way cut. On an open way a reply takes microseconds.
const silence = 300 * time.Millisecond

// eachNetwork runs a test with each mechanism of network faults that the machine has.
func eachNetwork(t *testing.T, test func(*testing.T, *network, devcluster.Topology)) {
	for name, make := range map[string]func(*testing.T, *devcluster.Topology) *network{"netns": newNamespaceNetwork,
		"proxy": newProxyNetwork} {
		t.Run(name, func(t *testing.T) {
			needsTime(t, "network faults")
			if err := haveNamespaces(); name == "netns" && err != nil {
				t.Skipf("no network namespaces: %v", err)
			}
			topology := devcluster.NewTopology(t.TempDir(), freePorts(t))
			n := make(t, &topology)
			t.Cleanup(n.close)
			test(t, n, topology)
		})
	}
}

// link is a connection between two parties, with both of its ends.
type link struct {
	t           *testing.T
	dialer, far net.Conn
}

// connect dials a listener, and returns both ends of the connection.
func connect(t *testing.T, l net.Listener, dial func(ctx context.Context, network, address string) (net.Conn, error),
	address string) *link {
	t.Helper()
	near, err := dial(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = near.Close()
		_ = far.Close()
	})
	return &link{t, near, far}
}

// send writes a text to the connection; it does not wait for its arrival.
func (l *link) send(from net.Conn, text string) {
	l.t.Helper()
	if _, err := io.WriteString(from, text); err != nil {
		l.t.Fatal(err)
	}
}

// arrives waits for a text that was sent.
func (l *link) arrives(at net.Conn, text string) {
	l.t.Helper()
	if err := at.SetReadDeadline(time.Now().Add(patience)); err != nil {
		l.t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(at, got); err != nil || string(got) != text {
		l.t.Fatalf("%q came, and %v; not %q", got, err, text)
	}
}

// nothing checks that nothing arrives.
func (l *link) nothing(at net.Conn) {
	l.t.Helper()
	if err := at.SetReadDeadline(time.Now().Add(silence)); err != nil {
		l.t.Fatal(err)
	}
	got := make([]byte, 100)
	if size, err := at.Read(got); !errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Fatalf("%q came by a way that is cut, and %v", got[:size], err)
	}
}

// TestCutWays checks that nothing arrives over a cut way while the opposite direction works, that held data arrives
// after the cut heals, and that an overlapping cut stays in effect.
func TestCutWays(t *testing.T) {
	eachNetwork(t, func(t *testing.T, n *network, topology devcluster.Topology) {
		const role = "master-1"
		r := roleOf(topology, role)
		listener, err := n.wires.listen(role, r.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		l := connect(t, listener, n.wires.dial, r.URL()[len("http://"):])
		client, server := l.dialer, l.far

		heal := n.cutWay(clientName, role)
		l.send(client, "to the role")
		l.nothing(server)
		l.send(server, "from the role")
		l.arrives(client, "from the role")
		heal()
		l.arrives(server, "to the role")

		heal = n.cutWay(role, clientName)
		l.send(server, "from the role again")
		l.nothing(client)
		l.send(client, "to the role again")
		l.arrives(server, "to the role again")
		again := n.cutWay(role, clientName)
		heal()
		l.nothing(client)
		again()
		l.arrives(client, "from the role again")

		heal = n.isolate(role, []string{clientName})
		l.send(client, "1")
		l.send(server, "2")
		l.nothing(server)
		l.nothing(client)
		heal()
		l.arrives(server, "1")
		l.arrives(client, "2")
		// Each cut stopped at least one, the last cut at least two.
		if stopped, err := n.wires.stopped(); err != nil || stopped < 4 {
			t.Errorf("cuts are said to have stopped %d packets or reads, and %v", stopped, err)
		}
	})
}

// TestSlowWays checks that data on a slow way is delayed, and that data on other ways is not.
func TestSlowWays(t *testing.T) {
	eachNetwork(t, func(t *testing.T, n *network, topology devcluster.Topology) {
		if !n.wires.canSlow() {
			t.Skip("ways cannot be slow")
		}
		const role, by = "storage-2", 2 * time.Second
		r := roleOf(topology, role)
		listener, err := n.wires.listen(role, r.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		l := connect(t, listener, n.wires.dial, r.URL()[len("http://"):])
		client, server := l.dialer, l.far
		takes := func(from, to net.Conn) time.Duration {
			t.Helper()
			began := time.Now()
			l.send(from, "how long does it take?")
			l.arrives(to, "how long does it take?")
			return time.Since(began)
		}
		heal := n.inject([]way{{clientName, role}}, condition{slow: by})
		if took := takes(client, server); took < by {
			t.Errorf("a way that is slow by %v took %v", by, took)
		}
		if took := takes(server, client); took >= by {
			t.Errorf("the way back took %v", took)
		}
		heal()
		if took := takes(client, server); took >= by {
			t.Errorf("a way that is slow no more took %v", took)
		}
		n.slow(role, []string{clientName}, by)
		if there, back := takes(client, server), takes(server, client); there < by || back < by {
			t.Errorf("a link that is slow by %v took %v there and %v back", by, there, back)
		}
	})
}

// TestNamespacesBetweenRoles checks that in namespaces a cut affects only the two roles, and that no new connection can
// be established over it in either direction.
func TestNamespacesBetweenRoles(t *testing.T) {
	needsTime(t, "network faults")
	if err := haveNamespaces(); err != nil {
		t.Skipf("no network namespaces: %v", err)
	}
	topology := devcluster.NewTopology(t.TempDir(), 8000)
	n := newNamespaceNetwork(t, &topology)
	t.Cleanup(n.close)
	ns := n.wires.(*namespaces)
	address := roleOf(topology, "master-2").Raft
	listener, err := ns.listen("master-2", address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	from := func(role string) func(ctx context.Context, network, address string) (net.Conn, error) {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			return ns.dialFrom(ctx, role, network, address)
		}
	}
	old, other := connect(t, listener, from("master-1"), address), connect(t, listener, from("master-3"), address)
	for _, w := range []way{{"master-1", "master-2"}, {"master-2", "master-1"}} {
		heal := n.cutWay(w.from, w.to)
		ctx, cancel := context.WithTimeout(t.Context(), silence)
		if conn, err := from("master-1")(ctx, "tcp", address); err == nil {
			t.Errorf("while %v is cut, %v came about", w, conn.RemoteAddr())
		}
		cancel()
		said, heard := old.dialer, old.far
		if w.from == "master-2" {
			said, heard = heard, said
		}
		old.send(said, "x")
		old.nothing(heard)
		old.send(heard, "y")
		old.arrives(said, "y")
		other.send(other.dialer, "z")
		other.arrives(other.far, "z")
		heal()
		old.arrives(heard, "x")
		connect(t, listener, from("master-1"), address)
	}
}

// TestLeftoverNamespaces checks that the namespaces of a killed test are removed, and those of a running one are kept.
func TestLeftoverNamespaces(t *testing.T) {
	needsTime(t, "network faults")
	if err := haveNamespaces(); err != nil {
		t.Skipf("no network namespaces: %v", err)
	}
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	left := namespacePrefix + strconv.Itoa(ended.Process.Pid) + "-1-hub"
	used := namespacePrefix + strconv.Itoa(os.Getpid()) + "-0-hub"
	for _, name := range []string{left, used} {
		if _, err := runTool("", "ip", "netns", "add", name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = removeNamespaces(name) })
	}
	if err := removeLeftovers(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(namespaceFolder, left)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there still: %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(namespaceFolder, used)); err != nil {
		t.Errorf("%s is gone: %v", used, err)
	}
}
