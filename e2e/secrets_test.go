package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/wire"
)

// secretsOf lists the secrets that a kind of role uses.
var secretsOf = map[devcluster.Kind][]string{
	devcluster.KindMaster:  secrets.Names,
	devcluster.KindStorage: {wire.SecretStorage, wire.SecretRecovery},
	devcluster.KindMiner:   {wire.SecretMiner},
}

// ownSecrets gives every role files of its own with a secret of each name, as if it ran on a machine of its own.
func ownSecrets(t *testing.T, topology *devcluster.Topology) {
	t.Helper()
	dir, inner := filepath.Join(topology.Dir, "secrets"), topology.Adjust
	topology.Adjust = func(i int, r *devcluster.Role) {
		if inner != nil {
			inner(i, r)
		}
		for _, name := range secretsOf[r.Kind] {
			*r.Secrets.Path(name) = filepath.Join(dir, r.Name+"-"+name)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range secrets.Names {
		for _, path := range secretFiles(*topology, name) {
			before := secrets.Values{Current: strings.Repeat(name, 2) + "-before-4096"}
			if err := secrets.WriteFile(path, before); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// secretFiles lists the files of a secret.
func secretFiles(topology devcluster.Topology, name string) (files []string) {
	for _, r := range topology.Roles() {
		if slices.Contains(secretsOf[r.Kind], name) {
			files = append(files, *r.Secrets.Path(name))
		}
	}
	return files
}

// changeSecrets changes the files of all secrets by a function.
func (c *cluster) changeSecrets(change func(name string, v *secrets.Values)) {
	c.t.Helper()
	for _, name := range secrets.Names {
		for _, path := range secretFiles(c.Topology(), name) {
			v, err := secrets.ReadFile(path)
			if err != nil {
				c.t.Fatal(err)
			}
			change(name, &v)
			if err := secrets.WriteFile(path, v); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// awaitSecrets waits until the leader knows that all roles use the secrets in a way.
func (c *cluster) awaitSecrets(what string, is func(u wire.SecretUse) bool) {
	c.t.Helper()
	c.await(what, func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*statusTimeout)
		defer cancel()
		status, err := c.Status(ctx) // with the admin token
		if err != nil {
			return err.Error()
		}
		uses, count := map[string][]wire.SecretUse{}, 0
		for _, m := range status.Masters {
			uses[m.URL] = m.Secrets
		}
		for _, n := range status.Storages {
			uses[n.URL] = n.Secrets
		}
		for _, m := range status.Miners {
			uses[m.URL] = m.Secrets
		}
		for _, url := range slices.Sorted(maps.Keys(uses)) {
			for _, u := range uses[url] {
				if count++; !is(u) || u.Error != "" {
					return fmt.Sprintf("%s: %+v", url, u)
				}
			}
		}
		if want := 3*5 + 3*2 + 1; count != want {
			return fmt.Sprintf("%d of %d secrets are known", count, want)
		}
		for _, m := range status.NoticesCoded {
			if m.Code == wire.CodeSealOld {
				return m.Text()
			}
		}
		return ""
	})
}

// TestSecretRotation replaces every secret of a cluster under load. No append may fail, and the log's key opens under
// the new secret alone. A secret of workers opens nothing of the masters.
func TestSecretRotation(t *testing.T) {
	c := startWith(t, func(topology *devcluster.Topology) { ownSecrets(t, topology) })
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	old, next := c.secrets(), map[string]string{}
	for _, name := range secrets.Names {
		next[name] = secrets.New()
	}
	c.changeSecrets(func(name string, v *secrets.Values) { v.Next = next[name] })
	c.awaitSecrets("all to accept the next values", func(u wire.SecretUse) bool {
		return u.Next == secrets.Fingerprint(next[u.Secret])
	})
	l.more(some)
	c.changeSecrets(func(_ string, v *secrets.Values) { *v = secrets.Values{Current: v.Next, Old: v.Current} })
	c.awaitSecrets("all to prove the new values", func(u wire.SecretUse) bool {
		return u.Current == secrets.Fingerprint(next[u.Secret])
	})
	l.more(some)
	c.changeSecrets(func(_ string, v *secrets.Values) { v.Old = "" })
	c.awaitSecrets("all to accept the new values only", func(u wire.SecretUse) bool {
		return u.Current == secrets.Fingerprint(next[u.Secret]) && u.Next == "" && u.Old == ""
	})
	l.more(some)
	leader := c.leader("")
	c.kill(leader)
	c.leader(leader)
	c.launch(leader) // it has the new values only
	c.awaitComplete(3)
	l.more(some)
	l.end()
	c.checkStolen(old)
	c.restart()
	c.awaitComplete(3)
	c.verify(o)
}

// TestRotateCommand rotates secrets with the command line: with the file of one machine, which is copied to the others
// whenever the command asks for it, and with the files of all roles at once.
func TestRotateCommand(t *testing.T) {
	c := startWith(t, func(topology *devcluster.Topology) { ownSecrets(t, topology) })
	rotate := []string{"secret", "rotate", "--cluster", c.clusterFile()}
	begin := []string{"--begin"}
	files := secretFiles(c.Topology(), wire.SecretMasters)
	before, err := secrets.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	steps := map[secrets.Values]bool{}
	for {
		cmd := exec.CommandContext(t.Context(), binary,
			slices.Concat(rotate, begin, []string{"masters", "--wait", "1s", "--file", files[0]})...)
		begin = nil
		said, err := cmd.CombinedOutput()
		v, readErr := secrets.ReadFile(files[0])
		if readErr != nil {
			t.Fatal(readErr)
		}
		if bytes.Contains(said, []byte(v.Current)) || bytes.Contains(said, []byte(before.Current)) {
			t.Error("the command has printed a secret")
		}
		if err == nil {
			break
		}
		if !bytes.Contains(said, []byte("then run this command again")) {
			t.Fatalf("%v: %s", err, said)
		}
		steps[v] = true
		for _, path := range files[1:] { // as an operator copies it
			if err := secrets.WriteFile(path, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	after, err := secrets.ReadFile(files[0])
	if err != nil || after.Current == before.Current || after.Old != "" || after.Next != "" || len(steps) > 3 {
		t.Errorf("%d states of the file, %v", len(steps), err)
	}
	// Once it is over, the same command changes nothing.
	c.command(nil, append(rotate, "masters", "--file", files[0])...)
	if again, err := secrets.ReadFile(files[0]); err != nil || again != after {
		t.Errorf("the file has changed: %v", err)
	}
	c.rotateWithCopy(rotate)
	args := append(rotate, "seal", "--begin", "--wait", patience.String())
	for _, path := range secretFiles(c.Topology(), wire.SecretSeal) {
		args = append(args, "--file", path)
	}
	if said := c.command(nil, args...); !bytes.Contains(said, []byte("done")) {
		t.Errorf("%s", said)
	}
	status := c.command(nil, "secret", "status", "--json", "--cluster", c.clusterFile())
	if n := bytes.Count(status, []byte("\n")); n != 3*5+3*2+1 || bytes.Contains(status, []byte(`"uses_old":true`)) ||
		bytes.Contains(status, []byte(after.Current)) {
		t.Errorf("%s", status)
	}
}

// rotateWithCopy rotates a secret with a command that copies its file. One that fails ends the rotation, which goes on
// with the next run.
func (c *cluster) rotateWithCopy(rotate []string) {
	c.t.Helper()
	files := secretFiles(c.Topology(), wire.SecretStorage)
	rotate = append(rotate, "storage", "--file", files[0], "--copy")
	said, err := exec.CommandContext(c.t.Context(), binary, append(rotate, "exit 7", "--begin")...).CombinedOutput()
	if err == nil || !bytes.Contains(said, []byte("status 7")) ||
		!bytes.Contains(said, []byte("goes on with this step")) {
		c.t.Errorf("with a copy that fails: %v: %s", err, said)
	}
	begun, err := secrets.ReadFile(files[0])
	if err != nil || begun.Next == "" {
		c.t.Errorf("nothing was begun: %v", err)
	}
	c.command(nil, append(rotate, "for file in "+strings.Join(files[1:], " ")+
		"; do cp "+files[0]+" $file.new && mv $file.new $file; done")...)
	for _, path := range files {
		if v, err := secrets.ReadFile(path); err != nil || v != (secrets.Values{Current: begun.Next}) {
			c.t.Errorf("%s is not at the end of the rotation: %v", path, err)
		}
	}
}

// checkStolen checks that replaced secrets open nothing, and that secrets of workers open nothing of others.
func (c *cluster) checkStolen(old nodeauth.Secrets) {
	c.t.Helper()
	now := c.secrets()
	master := roleOf(c.Topology(), "master-1").URL()
	storage, miner := roleOf(c.Topology(), "storage-1"), roleOf(c.Topology(), "miner-1")
	storageToken, minerToken := masterTokenOf(c.t, storage.Data), masterTokenOf(c.t, miner.Data)
	for _, row := range []struct {
		method, url, purpose, bound string
		right                       *nodeauth.Secret
		others                      []*nodeauth.Secret
	}{
		{http.MethodGet, master + wire.PathLeaderStatus, nodeauth.Masters, "", now.Masters,
			[]*nodeauth.Secret{old.Masters, now.Storage, now.Miner, now.Recovery}},
		{http.MethodGet, master + wire.PathReadIndex, nodeauth.Masters, "", now.Masters,
			[]*nodeauth.Secret{old.Masters, now.Storage, now.Miner, now.Recovery}},
		{http.MethodGet, storage.URL() + wire.PathChain, nodeauth.Recovery, "", now.Recovery,
			[]*nodeauth.Secret{old.Recovery, now.Storage, now.Miner}},
		{http.MethodGet, storage.URL() + wire.PathWorkerStatus, nodeauth.Orders, storageToken, now.Storage,
			[]*nodeauth.Secret{old.Storage, now.Miner, now.Recovery}},
		// A storage node has the secret, but not the master token of another one.
		{http.MethodGet, storage.URL() + wire.PathWorkerStatus, nodeauth.Orders, minerToken, nil,
			[]*nodeauth.Secret{now.Storage, now.Miner}},
		{http.MethodGet, miner.URL() + wire.PathWorkerStatus, nodeauth.Orders, minerToken, now.Miner,
			[]*nodeauth.Secret{old.Miner, now.Storage}},
	} {
		opens := func(secret *nodeauth.Secret) int {
			status, _ := c.call(row.method, row.url, nodeauth.Credential{
				Secret: secret, Purpose: row.purpose, Bound: row.bound,
			}, certs.Files{})
			return status
		}
		if row.right != nil {
			if status := opens(row.right); status == http.StatusUnauthorized || status == http.StatusForbidden {
				c.t.Errorf("%s with the right secret: %d", row.url, status)
			}
		}
		for i, secret := range row.others {
			if status := opens(secret); status != http.StatusUnauthorized {
				c.t.Errorf("%s as %s with secret %d of others: %d", row.url, row.purpose, i, status)
			}
		}
	}
}

// rotationPause is how long a schedule waits between two steps of the rotation of one secret: roles look at their files
// every two seconds. A role that was paused meanwhile is cut off until it looks again.
const rotationPause = 15 * time.Second

// secretFault takes the next step in the rotation of a random secret. All roles get the new file while they run, or
// when they start again.
func secretFault() fault {
	changed := map[string]time.Time{}
	return fault{"new secret", 3, func(s *schedule) (string, func()) {
		name := secrets.Names[s.random.IntN(len(secrets.Names))]
		if time.Since(changed[name]) < rotationPause {
			return name + " is being changed", nil
		}
		changed[name] = time.Now()
		step, next := "", secrets.New()
		s.c.changeSecrets(func(of string, v *secrets.Values) {
			switch {
			case of != name:
			case v.Next != "":
				step, *v = "switched", secrets.Values{Current: v.Next, Old: v.Current}
			case v.Old != "":
				step, v.Old = "dropped", ""
			default:
				step, v.Next = "begun", next
			}
		})
		return name + " " + step, nil
	}}
}
