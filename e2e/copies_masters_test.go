package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// awaitLevel waits until the group is at the protocol level of this version.
func (c *cluster) awaitLevel() {
	c.t.Helper()
	c.await("the protocol level", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		if s.Level != masterfsm.ProtocolLevel {
			return fmt.Sprintf("level %d; %q", s.Level, s.Notices)
		}
		return ""
	})
}

// awaitMasterRefused waits until a master reports that its folder is an older copy. It must not be ready, must explain
// how to rejoin, and must not serve requests.
func (c *cluster) awaitMasterRefused(role devcluster.Role) {
	c.t.Helper()
	isRefused := func(path string) string {
		status, p, err := c.health(role, path, c.projectToken())
		if status != http.StatusServiceUnavailable || p.Type != wire.ProblemBase+wire.ErrStaleFolder.Name ||
			!strings.Contains(p.Detail, "--join") || !strings.Contains(p.Detail, role.Data) {
			return fmt.Sprintf("%s of %s: %d %+v %v", path, role.Name, status, p, err)
		}
		return ""
	}
	c.await(role.Name+" to be refused", func() string { return isRefused("/readyz") })
	for _, path := range []string{"/v1/records?limit=1", "/v1/cluster", "/v1/blocks", "/checkpoint", "/v1/records/0"} {
		if text := isRefused(path); text != "" {
			c.t.Error(text)
		}
	}
	if status, _, err := c.health(role, "/livez", ""); status != http.StatusOK {
		c.t.Errorf("/livez of %s: %d, %v", role.Name, status, err)
	}
	if log := tail(role.Log, 1000); !strings.Contains(log, "[ERROR]") || !strings.Contains(log, "--join") {
		c.t.Errorf("%s does not say how to rejoin: %s", role.Log, log)
	}
}

// awaitStaleFolderNotice waits until the leader's status names the master of a role as refused, and not as silent.
func (c *cluster) awaitStaleFolderNotice(role devcluster.Role) {
	c.t.Helper()
	c.await("the notice that "+role.Name+" is refused", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		i := slices.IndexFunc(s.Masters, func(m wire.Master) bool { return m.URL == role.URL() })
		if i < 0 {
			return fmt.Sprintf("no master at %s: %+v", role.URL(), s.Masters)
		}
		noticed := func(code string) bool {
			return slices.ContainsFunc(s.NoticesCoded, func(n wire.Message) bool {
				return n.Code == code && n.Args["node"] == s.Masters[i].ID
			})
		}
		if !noticed(wire.CodeStaleFolder) || noticed(wire.CodeMasterSilent) {
			return fmt.Sprintf("%q", s.Notices)
		}
		return ""
	})
}

// TestRestoredMaster replaces the folder of a follower by an older copy, and kills the leader at once. It checks that
// no acknowledged record is lost, and that the restored master is refused until it has joined as a new one.
func TestRestoredMaster(t *testing.T) {
	t.Parallel()
	for _, r := range []struct {
		name     string
		restarts int
		running  bool // the copy is made while the master runs
		crash    bool // the master is killed before the copy is put back
	}{
		{"stopped", 0, false, false},
		{"stopped and ten restarts", 10, false, true},
		{"running", 0, true, false},
	} {
		t.Run(r.name, func(t *testing.T) {
			c, o := start(t), newOracle()
			c.awaitLevel()
			leader := c.leader("")
			name := c.followers(leader)[0]
			role := roleOf(c.Topology(), name)
			through := c.client(role.URL())
			c.appendEach(o, "before", 10, through)

			saved := filepath.Join(c.dir, "saved")
			if !r.running {
				if err := c.StopRole(name); err != nil {
					t.Fatal(err)
				}
			}
			c.copyFolder(role.Data, saved)
			for range r.restarts + 1 {
				if c.Alive(name) && r.running {
					break
				}
				if c.Alive(name) {
					c.kill(name)
				}
				c.launch(name)
			}
			c.awaitComplete(3)
			c.appendEach(o, "first life", 40, through)
			switch {
			case r.crash:
				c.kill(name)
			default:
				if err := c.StopRole(name); err != nil {
					t.Fatal(err)
				}
			}

			c.putBack(role, saved)
			c.launch(name)
			c.kill(leader)
			once := c.clientOnce(role.URL())
			for i := range 46 {
				e := client.Entry{Payload: fmt.Appendf(nil, "second life %d", i)}
				if at, err := once.Append(t.Context(), e); err == nil {
					o.ack([]client.Entry{e}, []wire.Position{at}) // it must be in the chain then
				} else if i > 0 && !errors.Is(err, wire.ErrStaleFolder) && !errors.Is(err, wire.ErrNoAnswer) &&
					!errors.Is(err, wire.ErrNoLeader) {
					t.Errorf("append %d: %v", i, err)
				}
			}
			c.launch(leader)
			c.awaitMasterRefused(role)
			c.awaitStaleFolderNotice(role)
			if _, err := once.Append(t.Context(), client.Entry{Payload: []byte("no")}); !errors.Is(err,
				wire.ErrStaleFolder) {
				t.Errorf("an append through a refused master: %v", err)
			}
			var others []*client.Client
			for _, other := range c.followers(name) {
				others = append(others, c.client(roleOf(c.Topology(), other).URL()))
			}
			c.appendEach(o, "meanwhile", 10, others...)

			// It stays refused after a restart, and can join as a new master.
			if err := c.StopRole(name); err != nil {
				t.Fatal(err)
			}
			c.launch(name)
			c.awaitMasterRefused(role)
			if err := c.StopRole(name); err != nil {
				t.Fatal(err)
			}
			c.rejoin(name)
			c.awaitVoters(c.File().Masters...)
			c.awaitComplete(3)
			c.appendEach(o, "rejoined", 10, through)
			c.verify(o)
		})
	}
}

// TestCopiedMasterBeside copies the folder of a running follower and starts the copy on another port. It checks that
// one of the two is refused, that the group continues, and that no acknowledged record is lost.
func TestCopiedMasterBeside(t *testing.T) {
	c, o := start(t), newOracle()
	c.awaitLevel()
	a := c.appendAlways(o)
	c.awaitMore(a, some)
	name := c.followers(c.leader(""))[0]
	role := roleOf(c.Topology(), name)
	saved := filepath.Join(c.dir, "saved")
	if err := c.StopRole(name); err != nil {
		t.Fatal(err)
	}
	c.copyFolder(role.Data, saved)
	c.launch(name)
	c.awaitMore(a, some)
	c.awaitComplete(3)

	beside := roleOf(c.Topology(), name)
	beside.Name, beside.Data, beside.Log = "copy", saved, filepath.Join(c.dir, "logs", "copy.log")
	beside.HTTP, beside.Raft = fmt.Sprint("127.0.0.1:", c.Topology().Port+9),
		fmt.Sprint("127.0.0.1:", c.Topology().Port+19)
	beside.Join = c.File().Masters
	launcher := devcluster.NewProcesses(binary)
	t.Cleanup(launcher.Close)
	process, err := launcher.Launch(c.Topology(), beside, c.File().Tokens)
	if err != nil {
		t.Fatal(err)
	}
	c.awaitMasterRefused(beside)
	c.awaitMore(a, some)
	a.end()
	if err := process.Stop(); err != nil {
		t.Error(err)
	}
	c.awaitComplete(3)
	c.verify(o)
}
