package devcluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// Cluster is a running cluster. Its methods may be called by one goroutine at a time, except for Status, which any
// goroutine may call.
type Cluster struct {
	topology  Topology
	processes *Processes // starts the roles; nil if they run in this process
	lock      *durable.Lock
	file      ClusterFile
	running   map[string]*Running // by name of the role
	trust     *tls.Config         // of clients of the masters; nil without TLS
}

// readyTime bounds the time until a cluster is complete.
const readyTime = 20 * time.Second

// defaultProject is the project whose token the cluster file holds.
const defaultProject = "default"

// Start starts all roles of a topology, waits until the cluster is complete, and writes the cluster file. Each role is
// a child process of an executable, or runs in this process if that is "". Start checks the ports and the folder's lock
// and format before it changes anything.
func Start(ctx context.Context, t Topology, executable string) (*Cluster, error) {
	c, err := Prepare(t, executable)
	if err != nil {
		return nil, err
	}
	for _, r := range t.Roles() {
		if err := c.StartAs(r); err != nil {
			return nil, errors.Join(err, c.Stop())
		}
	}
	if err := c.awaitComplete(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	if err := c.ensureProject(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Prepare makes the folder and the cluster file of a topology, but starts no role. See [Start].
func Prepare(t Topology, executable string) (*Cluster, error) {
	if err := t.validate(); err != nil {
		return nil, err
	}
	if err := portsFree(t); err != nil {
		return nil, err
	}
	c := &Cluster{topology: t, running: map[string]*Running{}}
	if executable != "" {
		c.processes = NewProcesses(executable)
	}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// prepare locks the folder and makes or reads the cluster file.
func (c *Cluster) prepare() error {
	path := ClusterFilePath(c.topology.Dir)
	old, err := ReadClusterFile(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return err
	}
	if !fresh {
		want := c.topology.file(old.Tokens)
		if !slices.Equal(want.Masters, old.Masters) || !slices.Equal(want.Storages, old.Storages) ||
			!slices.Equal(want.Miners, old.Miners) {
			return fmt.Errorf("%s was made for masters %v: start it with the same --port and --tls and in the same "+
				"place, or choose another --data folder", path, old.Masters)
		}
	}
	if err := durable.MkdirAll(c.topology.Dir); err != nil {
		return err
	}
	if c.lock, err = durable.LockDir(c.topology.Dir); err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Join(c.topology.Dir, "logs")); err != nil {
		return err
	}
	if c.topology.TLS {
		if err := c.prepareTLS(); err != nil {
			return err
		}
	}
	if !fresh {
		c.file = old
		return nil
	}
	c.file = c.topology.file(Tokens{Admin: rand.Text(), Cluster: rand.Text()})
	return c.file.Write(path)
}

// StartRole starts a role that is not running.
func (c *Cluster) StartRole(name string) error {
	for _, r := range c.topology.Roles() {
		if r.Name == name {
			return c.StartAs(r)
		}
	}
	return fmt.Errorf("there is no role %q", name)
}

// StartAs starts a role with its own settings, which may differ from those of the topology: a master that joins, or one
// that moved.
func (c *Cluster) StartAs(r Role) error {
	launch := launchInProcess
	if c.processes != nil {
		launch = c.processes.Launch
	}
	running, err := launch(c.topology, r, c.file.Tokens)
	if err == nil {
		c.running[r.Name] = running
	}
	return err
}

// Alive reports whether a role that was started is still running.
func (c *Cluster) Alive(name string) bool {
	running, ok := c.running[name]
	return ok && !running.ended()
}

// Forget drops a role that ended by itself, so that it can be started again. It returns the error it ended with.
func (c *Cluster) Forget(name string) error {
	if c.Alive(name) {
		return fmt.Errorf("%s did not end by itself", name)
	}
	return c.take(name, (*Running).Err)
}

// StopRole stops a role cleanly.
func (c *Cluster) StopRole(name string) error { return c.take(name, (*Running).Stop) }

// KillRole kills the process of a role with SIGKILL and waits for its end.
func (c *Cluster) KillRole(name string) error { return c.take(name, (*Running).kill) }

// take ends a role with a function and drops it.
func (c *Cluster) take(name string, end func(*Running) error) error {
	running, ok := c.running[name]
	if !ok {
		return fmt.Errorf("%s is not running", name)
	}
	delete(c.running, name)
	return end(running)
}

// client returns a client of the masters with a token.
func (c *Cluster) client(token string) (*client.Client, error) {
	return client.New(client.Config{Masters: c.file.Masters, Token: token, HTTP: c.topology.HTTP, TLS: c.trust})
}

// Status asks the cluster for its status.
func (c *Cluster) Status(ctx context.Context) (wire.Cluster, error) {
	cl, err := c.client(c.file.Tokens.Admin)
	if err != nil {
		return wire.Cluster{}, err
	}
	defer cl.CloseIdle()
	return cl.Cluster(ctx)
}

// awaitComplete waits until there is a leader, every master is a member, and every worker is registered and live.
func (c *Cluster) awaitComplete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	missing := "no master answers"
	for {
		ask, done := context.WithTimeout(ctx, time.Second)
		status, err := c.Status(ask)
		done()
		if err == nil {
			if missing = c.missing(status); missing == "" {
				return nil
			}
		}
		for _, r := range c.running {
			if r.ended() && r.err != nil {
				return r.err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster did not come up within %v: %s; see the files in %s",
				readyTime, missing, filepath.Join(c.topology.Dir, "logs"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// missing describes what is missing for the cluster to be complete, "" for nothing.
func (c *Cluster) missing(s wire.Cluster) string {
	masters, storages, miners := 0, 0, 0
	for _, m := range s.Masters {
		if m.State == "leader" || m.State == "follower" {
			masters++
		}
	}
	for _, n := range s.Storages {
		if n.Live {
			storages++
		}
	}
	for _, m := range s.Miners {
		if m.Live {
			miners++
		}
	}
	if masters >= c.topology.Masters && storages >= c.topology.Storages && miners >= c.topology.Miners {
		return ""
	}
	return fmt.Sprintf("%d of %d masters, %d of %d storage nodes and %d of %d miners are ready",
		masters, c.topology.Masters, storages, c.topology.Storages, miners, c.topology.Miners)
}

// ensureProject creates the default project, unless the cluster file has a token for it.
func (c *Cluster) ensureProject(ctx context.Context) error {
	if c.file.Tokens.Project != "" {
		return nil
	}
	admin, err := c.client(c.file.Tokens.Admin)
	if err != nil {
		return err
	}
	defer admin.CloseIdle()
	name := defaultProject
	created, err := admin.CreateProject(ctx, wire.NewProject{Name: name})
	if errors.Is(err, wire.ErrNameTaken) {
		// An earlier start created the project and failed before it saved the token.
		name = defaultProject + "-" + rand.Text()[:6]
		created, err = admin.CreateProject(ctx, wire.NewProject{Name: name})
	}
	if err != nil {
		return fmt.Errorf("create the project %q: %w", name, err)
	}
	c.file.Tokens.Project = created.Token
	return c.file.Write(ClusterFilePath(c.topology.Dir))
}

// File returns the cluster file.
func (c *Cluster) File() ClusterFile { return c.file }

// Topology returns the topology that the cluster was started from.
func (c *Cluster) Topology() Topology { return c.topology }

// PIDs returns the process of each running role.
func (c *Cluster) PIDs() map[string]int {
	pids := map[string]int{}
	for name, r := range c.running {
		pids[name] = r.PID()
	}
	return pids
}

// Ended calls report for each role that ends by itself, until ctx ends.
func (c *Cluster) Ended(ctx context.Context, report func(name string, err error)) {
	var watchers sync.WaitGroup
	for name, r := range c.running {
		watchers.Go(func() {
			select {
			case <-ctx.Done():
			case <-r.Done():
				report(name, r.Err())
			}
		})
	}
	watchers.Wait()
}

// Stop stops all roles cleanly and at the same time, and unlocks the folder.
func (c *Cluster) Stop() error {
	var g errgroup.Group
	for _, r := range c.running {
		g.Go(func() error {
			if r.ended() { // earlier, and its error was reported then
				return nil
			}
			return r.Stop()
		})
	}
	err := g.Wait()
	clear(c.running)
	if c.lock != nil {
		err = errors.Join(err, c.lock.Close())
		c.lock = nil
	}
	if c.processes != nil {
		c.processes.Close()
		c.processes = nil
	}
	return err
}
