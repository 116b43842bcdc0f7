package e2e

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// TestExportAndImport exports a chain while the cluster runs, then deletes every disk, and founds the group again from
// the file and the log's key alone. It checks that earlier receipts stay valid, that the log keeps its identity, and
// that an auditor can continue from its earlier state.
func TestExportAndImport(t *testing.T) {
	outside := t.TempDir()
	at := func(name string) string { return filepath.Join(outside, name) }
	private, vkey, err := note.GenerateKey(rand.Reader, "log.example/exported")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		if err := os.WriteFile(at(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	backup := write("log.key", []byte(private+"\n"))
	c, topology := prepared(t, func(topology *devcluster.Topology) {
		topology.CheckpointKey, topology.Origin = backup, "log.example/exported"
	})
	c.program = altered(c.t, "quick-recovery")
	c.begin(topology)
	o := newOracle()
	c.appendEach(o, "before", some, c.masters...)
	stored := c.awaitStored()
	first := o.order[0]
	receipt, err := c.masters[0].ReceiptAt(t.Context(), first.at.Block, first.at.Offset)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(receipt)
	if err != nil {
		t.Fatal(err)
	}
	kept, payload := write("first.receipt", data), write("first", []byte("before 0"))
	c.holds(kept, payload, vkey)
	c.auditFrom(c.File().Masters[0], vkey, at("state.json"))

	storages := c.storageNames()
	c.command(nil, "export", "--data", roleOf(c.Topology(), storages[0]).Data, "--out", at("chain.export"), "--url",
		c.File().Masters[1])
	if out := string(c.command(nil, "verify", "--file", at("chain.export"), "--key", vkey)); !strings.Contains(out,
		"signed by  log.example/exported+") || !strings.HasSuffix(out, "export valid\n") {
		t.Errorf("the export: %s", out)
	}

	// Without a checkpoint the origin of the chain cannot be verified.
	c.command(nil, "export", "--data", roleOf(c.Topology(), storages[0]).Data, "--out", at("unsigned.export"))
	if status, said := c.refusedBy("verify", "--file", at("unsigned.export"), "--key", vkey); status != 1 ||
		!strings.Contains(said, "unsigned") {
		t.Errorf("an export without a checkpoint: exit status %d, %s", status, said)
	}

	masters := c.names(devcluster.KindMaster)
	c.kill(append(masters, storages...)...)
	for _, name := range append(masters, storages...) {
		c.wipe(roleOf(c.Topology(), name).Data)
	}
	var urls []string
	for _, name := range storages[:2] {
		role := roleOf(c.Topology(), name)
		c.command(nil, "import", at("chain.export"), "--data", role.Data)
		urls = append(urls, role.URL())
	}
	c.launch(storages...) // the third is new
	c.awaitAnswers(storages...)
	done := c.recover(masters[0], "--from-storage", strings.Join(urls, ","))
	if done.Epoch != 2 || done.ChainHeight != stored || done.Adopted != int(stored) || done.Replicated != stored {
		t.Errorf("recovered %+v of %d blocks", done, stored)
	}
	c.launch(masters[0])
	admin := c.admin()
	c.masters = []*client.Client{admin}
	c.awaitVoters(roleOf(c.Topology(), masters[0]).URL())
	for _, name := range masters[1:] {
		c.rejoin(name)
	}
	c.awaitVoters(c.File().Masters...)
	renewed, err := admin.CreateToken(t.Context(), "recovered-1", wire.NewToken{})
	if err != nil {
		t.Fatal(err)
	}
	c.token, c.masters = renewed.Token, nil
	for _, url := range c.File().Masters {
		c.masters = append(c.masters, c.client(url))
	}
	c.awaitComplete(3)

	c.holds(kept, payload, vkey)
	c.appendEach(o, "after", some, c.masters...)
	c.awaitStored()
	if out := c.auditFrom(c.File().Masters[2], vkey, at("state.json")); !strings.Contains(out,
		"the others were checked before") {
		t.Errorf("the audit began again: %s", out)
	}
	c.verify(o)
}

// holds checks that an earlier receipt and its payload are still valid under the log's key.
func (c *cluster) holds(receipt, payload, vkey string) {
	c.t.Helper()
	if out := string(c.command(nil, "verify", "receipt", receipt, "--payload", payload, "--key",
		vkey)); !strings.HasSuffix(out, "receipt good, payload good\n") {
		c.t.Errorf("the receipt: %s", out)
	}
}

// auditFrom runs an outside auditor on the log that a master serves.
func (c *cluster) auditFrom(url, vkey, state string) string {
	c.t.Helper()
	out := string(c.command(nil, "verify", "--url", url, "--key", vkey, "--state", state))
	if !strings.HasSuffix(out, "log valid\n") {
		c.t.Errorf("the audit: %s", out)
	}
	return out
}
