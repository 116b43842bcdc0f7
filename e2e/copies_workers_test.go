package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// renewal is longer than the interval at which a worker renews its registration.
const renewal = 15 * time.Second

// startWithStarts is like start, but waits until the masters have the list of starts of every worker. The protocol
// level must have been raised, and each worker must have started since.
func startWithStarts(t *testing.T) *cluster {
	t.Helper()
	c := start(t)
	c.awaitLevel()
	for _, name := range []string{"storage-1", "storage-2", "storage-3", "miner-1"} {
		c.kill(name)
		c.launch(name)
		c.awaitReady(roleOf(c.Topology(), name))
		c.awaitComplete(3)
	}
	return c
}

// health requests the health of a node. The token is that of a user for a master, and else a master token.
func (c *cluster) health(role devcluster.Role, path, token string) (status int, p wire.Problem, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), statusTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, role.URL()+path, nil)
	if err != nil {
		return 0, p, err
	}
	send := nodeauth.Send(c.httpClient().Do)
	switch {
	case strings.HasPrefix(path, wire.PathChain):
		send = c.prove(c.httpClient(), c.secrets().For(nodeauth.Recovery))
	case token != "" && role.Kind == devcluster.KindMaster:
		request.Header.Set("Authorization", "Bearer "+token)
	case token != "":
		send = c.prove(c.httpClient(), c.secrets().ForWorker(role.Kind == devcluster.KindMiner, token))
	}
	response, err := send(request)
	if err != nil {
		return 0, p, err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode != http.StatusOK {
		err = json.Unmarshal(body, &p)
	}
	return response.StatusCode, p, err
}

// awaitReady waits until a worker is registered.
func (c *cluster) awaitReady(role devcluster.Role) {
	c.t.Helper()
	c.await(role.Name+" to take part", func() string {
		if status, p, err := c.health(role, "/readyz", ""); status != http.StatusOK {
			return fmt.Sprint(status, p.Detail, err)
		}
		return ""
	})
}

// awaitRefused waits until a worker reports that it is refused. It checks that the worker reports this everywhere, and
// serves no requests.
func (c *cluster) awaitRefused(role devcluster.Role) {
	c.t.Helper()
	isRefused := func(path, token string) string {
		status, p, err := c.health(role, path, token)
		if status != http.StatusServiceUnavailable || p.Type != wire.ProblemBase+wire.ErrStaleFolder.Name ||
			!strings.Contains(p.Detail, "identity.json and starts") {
			return fmt.Sprintf("%s of %s: %d %+v %v", path, role.Name, status, p, err)
		}
		return ""
	}
	c.await(role.Name+" to be refused", func() string { return isRefused("/readyz", "") })
	paths := map[string]string{wire.PathWorkerStatus: masterTokenOf(c.t, role.Data)}
	if role.Kind == devcluster.KindStorage {
		paths[wire.PathHeaders] = paths[wire.PathWorkerStatus]
		paths[wire.PathChain] = c.File().Tokens.Cluster
	}
	for path, token := range paths {
		if text := isRefused(path, token); text != "" {
			c.t.Error(text)
		}
	}
	if status, _, err := c.health(role, "/livez", ""); status != http.StatusOK {
		c.t.Errorf("/livez of %s: %d, %v", role.Name, status, err)
	}
	log, err := os.ReadFile(role.Log)
	if err != nil {
		c.t.Fatal(err)
	}
	told := 0
	for _, line := range strings.Split(string(log), "\n") {
		if strings.Contains(line, "[ERROR]") && strings.Contains(line, "refused by the masters") {
			told++
			if !strings.Contains(line, role.Data) || !strings.Contains(line, "identity.json and starts") {
				c.t.Errorf("%s: the log does not say how to come back: %s", role.Name, line)
			}
		}
	}
	if told == 0 {
		c.t.Errorf("%s: the log does not say that it is refused", role.Name)
	}
}

// masterTokenOf returns the token that masters present to the worker with a data folder.
func masterTokenOf(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	var id struct {
		MasterToken string `json:"master_token"`
	}
	if err := json.Unmarshal(data, &id); err != nil {
		t.Fatal(err)
	}
	return id.MasterToken
}

// copyFolder copies a data folder like cp -a, even if a process uses it. It skips files that disappear meanwhile.
func (c *cluster) copyFolder(from, to string) {
	c.t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if d.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// putBack replaces the folder of a role by an earlier copy.
func (c *cluster) putBack(role devcluster.Role, from string) {
	c.t.Helper()
	c.wipe(role.Data)
	c.copyFolder(from, role.Data)
}

// beside returns a copy of a role with another folder and address.
func (c *cluster) beside(role devcluster.Role, data string) devcluster.Role {
	topology := c.Topology()
	topology.Storages = 4
	role.Name += "-copy"
	role.Data, role.HTTP = data, roleOf(topology, "storage-4").HTTP
	role.Log = filepath.Join(filepath.Dir(role.Log), role.Name+".log")
	return role
}

// startRole starts a role that is not in the topology.
func (c *cluster) startRole(role devcluster.Role) {
	c.t.Helper()
	if err := c.StartAs(role); err != nil {
		c.t.Fatal(err)
	}
}

// joinAnew follows the instructions of a refused worker: it removes the identity and the list of starts, and starts the
// worker again.
func (c *cluster) joinAnew(role devcluster.Role) {
	c.t.Helper()
	c.kill(role.Name)
	for _, name := range []string{"identity.json", "starts"} {
		if err := os.Remove(filepath.Join(role.Data, name)); err != nil {
			c.t.Fatal(err)
		}
	}
	c.startRole(role)
	c.awaitReady(role)
}

// workers returns the URLs of the workers that the masters have, by id.
func (c *cluster) workers() (map[string]string, error) {
	s, err := c.status()
	if err != nil {
		return nil, err
	}
	urls := map[string]string{}
	for _, n := range s.Storages {
		urls[n.ID] = n.URL
	}
	for _, n := range s.Miners {
		urls[n.ID] = n.URL
	}
	return urls, nil
}

// place returns the URL at which the masters have the worker with an id, or "".
func (c *cluster) place(id string) (string, error) {
	workers, err := c.workers()
	return workers[id], err
}

// idAt returns the id of the worker at a URL.
func (c *cluster) idAt(url string) (id string) {
	c.t.Helper()
	c.await("a worker at "+url, func() string {
		workers, err := c.workers()
		if err != nil {
			return err.Error()
		}
		for known, at := range workers {
			if at == url {
				id = known
			}
		}
		if id == "" {
			return fmt.Sprint(workers)
		}
		return ""
	})
	return id
}

// startCopyOfStopped starts a second worker on a copy of a worker's folder that was made while the worker was stopped.
// The worker has started again by then, so the copy is refused. id is the id of both.
func (c *cluster) startCopyOfStopped(original devcluster.Role) (stopped devcluster.Role, id string) {
	c.t.Helper()
	stopped = c.beside(original, filepath.Join(c.dir, "stopped"))
	c.kill(original.Name)
	c.copyFolder(original.Data, stopped.Data)
	c.launch(original.Name)
	c.awaitReady(original)
	id = c.idAt(original.URL())
	c.startRole(stopped)
	c.awaitRefused(stopped)
	return stopped, id
}

// startCopyOfRunning starts a second worker on a copy of the folder of a worker that runs. The copy is the newer start,
// so the worker is refused.
func (c *cluster) startCopyOfRunning(original devcluster.Role) (running devcluster.Role) {
	c.t.Helper()
	running = c.beside(original, filepath.Join(c.dir, "running"))
	c.copyFolder(original.Data, running.Data)
	c.startRole(running)
	c.awaitReady(running)
	c.awaitRefused(original)
	return running
}

// keepsPlace checks that the masters have a worker at one URL, without interruption, until all workers have registered
// again.
func (c *cluster) keepsPlace(id, url string) {
	c.t.Helper()
	c.stays(renewal, func() string {
		if at, err := c.place(id); err == nil && at != url {
			return fmt.Sprintf("%s is at %q, want %s", id, at, url)
		}
		return ""
	})
}

// TestStorageFolderCopied runs two storage nodes on copies of one folder. It checks that the node that started last
// stays and that the other is refused. The other can join as a new node and keeps its blocks. No record is lost or read
// wrongly.
func TestStorageFolderCopied(t *testing.T) {
	c, o := startWithStarts(t), newOracle()
	c.expectDamage = true // a copy of a folder in use may lack blocks that the node acknowledged meanwhile
	original := roleOf(c.Topology(), "storage-2")
	l := c.startLoad(o)
	l.more(some)

	stopped, id := c.startCopyOfStopped(original)
	l.more(some)
	c.keepsPlace(id, original.URL())
	c.awaitReady(original)
	c.kill(stopped.Name)

	had := nodeAt(c.integrity(), original.URL()).Height
	running := c.startCopyOfRunning(original)
	l.more(some)
	c.keepsPlace(id, running.URL())
	c.awaitReady(running)

	// Another start does not admit the original. It can join as the error message describes.
	c.kill(original.Name)
	c.launch(original.Name)
	c.awaitRefused(original)
	moved := c.integrity().Totals.RepairedBlocks
	c.joinAnew(original)
	if again := c.idAt(original.URL()); again == id || again == "" {
		t.Errorf("it was %s and is %s", id, again)
	}
	c.awaitComplete(4)
	l.more(some)
	l.end()
	status := c.awaitSettled(4)
	if got := c.integrity().Totals.RepairedBlocks - moved; had == 0 || got > status.Head.Height-had {
		t.Errorf("%d blocks of %d were sent, although it had %d", got, status.Head.Height, had)
	}
	c.verify(o, running.Data)
}

// TestStorageFolderPutBack checks that an older copy of a storage node's folder is refused, no matter how many starts
// it lacks, and that it can rejoin as a new node in place of the old one. If the node did not start since the copy was
// made, the copy only lacks blocks, and is repaired.
func TestStorageFolderPutBack(t *testing.T) {
	c, o := startWithStarts(t), newOracle()
	c.expectDamage = true // the masters are told that acknowledged blocks are missing
	role := roleOf(c.Topology(), "storage-3")
	l := c.startLoad(o)
	l.more(some)
	older := filepath.Join(c.dir, "older")
	for _, starts := range []int{0, 1, 10} {
		c.wipeAll(older)
		if starts == 0 {
			c.copyFolder(role.Data, older)
		} else {
			c.kill(role.Name)
			c.copyFolder(role.Data, older)
		}
		for i := range starts {
			c.launch(role.Name)
			c.awaitReady(role)
			if i < starts-1 {
				c.kill(role.Name)
			}
		}
		c.awaitComplete(3)
		l.more(some)
		id := c.idAt(role.URL())
		c.kill(role.Name)
		c.putBack(role, older)
		c.launch(role.Name)
		if starts > 0 {
			c.awaitRefused(role)
			l.more(some / 2)
			c.joinAnew(role)
		}
		c.awaitReady(role)
		c.awaitComplete(3)
		if now := c.idAt(role.URL()); (now == id) != (starts == 0) {
			t.Errorf("after %d starts it was %s and is %s", starts, id, now)
		}
		if at, err := c.place(id); err != nil || (at == "") != (starts > 0) {
			t.Errorf("after %d starts %s is at %q, %v", starts, id, at, err)
		}
	}
	l.end()
	c.verify(o)
}

// wipeAll removes a folder if it exists.
func (c *cluster) wipeAll(dir string) {
	c.t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		c.t.Fatal(err)
	}
}

// TestMinerFolderCopied checks the same for miners as TestStorageFolderCopied.
func TestMinerFolderCopied(t *testing.T) {
	c, o := startWithStarts(t), newOracle()
	original := roleOf(c.Topology(), "miner-1")
	l := c.startLoad(o)
	l.more(some)

	stopped, id := c.startCopyOfStopped(original)
	c.keepsPlace(id, original.URL())
	c.kill(stopped.Name)

	running := c.startCopyOfRunning(original)
	c.keepsPlace(id, running.URL())
	l.more(some)
	c.kill(original.Name)
	c.launch(original.Name)
	c.awaitRefused(original)
	c.joinAnew(original)
	if again := c.idAt(original.URL()); again == id {
		t.Errorf("it is %s still", id)
	}
	l.more(some / 2)
	// The copy takes the place of the original.
	c.kill(original.Name, running.Name)
	c.putBack(original, running.Data)
	c.launch(original.Name)
	c.awaitReady(original)
	if again := c.idAt(original.URL()); again != id {
		t.Errorf("it was %s and is %s", id, again)
	}

	older := filepath.Join(c.dir, "older")
	for _, starts := range []int{0, 1, 10} {
		c.wipeAll(older)
		c.copyFolder(original.Data, older)
		for range starts {
			c.kill(original.Name)
			c.launch(original.Name)
			c.awaitReady(original)
		}
		c.kill(original.Name)
		c.putBack(original, older)
		c.launch(original.Name)
		if starts > 0 {
			c.awaitRefused(original)
			c.joinAnew(original)
		}
		c.awaitReady(original)
		l.more(some / 2)
	}
	l.end()
	c.verify(o)
}
