package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// TestReceiptsLast checks that an early receipt is still valid after the log's key was replaced, after the record's
// block was damaged and repaired, and for a chain that was exported and imported elsewhere. With another payload the
// verifier must report that the payload does not match.
func TestReceiptsLast(t *testing.T) {
	c, o := startSmallSegments(t), newOracle()
	c.expectDamage = true
	const payload = "the first record of all"
	first := c.logKeys()
	kept := c.appendForReceipt(o, payload)
	checkPublicly(t, kept, first[0])
	receipt, record := filepath.Join(c.dir, "first.receipt"), filepath.Join(c.dir, "first.record")
	c.keep(receipt, kept)
	c.keep(record, []byte(payload))

	l := c.startLoad(o)
	l.more(3 * some)
	c.command(nil, "log", "key", "add", "--cluster", c.clusterFile())
	both := c.logKeys()
	if len(both) != 2 || both[0] != first[0] {
		t.Fatalf("with a successor the keys that sign are %q", both)
	}
	c.checkpoints.trust(verifierOf(t, both[1]))
	c.command(nil, "log", "key", "retire", keyID(first[0]), "--cluster", c.clusterFile())
	if left := c.logKeys(); len(left) != 1 || left[0] != both[1] {
		t.Fatalf("after the first was retired the keys that sign are %q", left)
	}
	checkPublicly(t, c.appendForReceipt(o, "under the second key"), both[1])

	c.awaitSegments(3)
	before := c.integrity()
	sick := &damaged{cluster: c, name: "storage-1"}
	d := sick.disk()
	d.at(filepath.Join("segments", segment.Name(0)))
	d.truncate(100)
	url := roleOf(c.Topology(), "storage-1").URL()
	was := nodeAt(before, url)
	if _, err := c.admin().CheckStorage(t.Context(), was.ID); err != nil {
		t.Fatal(err)
	}
	if now := sick.awaitHealed(before, url, was); !told(before, now, url, "repair") {
		t.Errorf("nothing was repaired: %+v", now.Events)
	}
	l.end()
	c.awaitStored()

	export, imported := filepath.Join(c.dir, "chain.export"), filepath.Join(c.dir, "imported")
	c.command(nil, "export", "--data", roleOf(c.Topology(), "storage-1").Data, "--out", export, "--url",
		c.File().Masters[0])
	c.command(nil, "verify", "--file", export, "--key", both[1])
	c.command(nil, "import", export, "--data", imported)
	c.command(nil, "verify", "receipt", receipt, "--payload", record, "--key", first[0])
	c.command(nil, "verify", "--url", c.File().Masters[0], "--key", both[1])

	c.keep(record, []byte(strings.Replace(payload, "first", "First", 1)))
	if status, said := c.refusedBy("verify", "receipt", receipt, "--payload", record, "--key", first[0]); status != 1 ||
		!strings.Contains(said, "payload") {
		t.Errorf("with a byte of the payload changed: exit status %d, %s", status, said)
	}
	c.keep(record, []byte(payload))
	if status, said := c.refusedBy("verify", "receipt", receipt, "--payload", record, "--key", both[1]); status != 1 ||
		!strings.Contains(said, "key") {
		t.Errorf("with a key that did not sign: exit status %d, %s", status, said)
	}
	c.verify(o)
	here, err := audit.Verify(t.Context(), roleOf(c.Topology(), "storage-1").Data, nil)
	if err != nil {
		t.Fatal(err)
	}
	there, err := audit.Verify(t.Context(), imported, nil)
	if err != nil || there.Hash != here.Hash || there.Height != here.Height {
		t.Errorf("imported: %+v, %v; exported: %+v", there, err, here)
	}
}

// TestStolenKey follows the procedure for a stolen key of the log: the log is closed at a checkpoint from before, and
// an auditor goes on with the new key and the state of the run before. A receipt from before stays valid.
func TestStolenKey(t *testing.T) {
	c, o := start(t), newOracle()
	url, old := c.File().Masters[0], c.logKeys()[0]
	early := c.appendForReceipt(o, "before the theft")
	receipt, state := filepath.Join(c.dir, "early.receipt"), filepath.Join(c.dir, "audit.state")
	trusted := filepath.Join(c.dir, "trusted.checkpoint")
	c.keep(receipt, early)
	c.keep(trusted, c.command(nil, "log", "checkpoint", "--cluster", c.clusterFile()))
	c.command(nil, "verify", "--url", url, "--key", old, "--state", state)
	c.appendForReceipt(o, "meanwhile")
	key := strings.TrimSpace(string(c.command(nil, "log", "close", "example.com/second", "--reason", "key stolen",
		"--trusted", trusted, "--yes", "--cluster", c.clusterFile())))
	if keys := c.logKeys(); len(keys) != 1 || keys[0] != key || !strings.HasPrefix(key, "example.com/second+") {
		t.Fatalf("the keys are %q, the command printed %q", keys, key)
	}
	checkPublicly(t, c.appendForReceipt(o, "under the new key"), key)
	said := string(c.command(nil, "verify", "--url", url, "--key", key, "--state", state))
	if !strings.Contains(strings.Join(strings.Fields(said), " "), "key stolen") { // the lines are wrapped
		t.Errorf("the auditor is not told why the log has another name: %s", said)
	}
	if said := string(c.command(nil, "log", "show", "--cluster", c.clusterFile())); !strings.Contains(said,
		"key stolen") {
		t.Errorf("the closed log is not shown: %s", said)
	}
	c.command(nil, "verify", "receipt", receipt, "--key", old)
	if status, said := c.refusedBy("verify", "--url", url, "--key", old); status != 1 {
		t.Errorf("with the former key: exit status %d, %s", status, said)
	}
	c.kill(c.leader(""))
	if status, said := c.refusedBy("log", "close", "example.com/second", "--reason", "again", "--yes", "--cluster",
		c.clusterFile()); status == 0 || !strings.Contains(said, "example.com/second") {
		t.Errorf("to the same name, by the next leader: exit status %d, %s", status, said)
	}
}

// keep writes a file, and overwrites an existing one.
func (c *cluster) keep(path string, data []byte) {
	c.t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// logKeys returns the signing keys, as the command prints them.
func (c *cluster) logKeys() []string {
	c.t.Helper()
	return strings.Fields(string(c.command(nil, "log", "key", "--cluster", c.clusterFile())))
}

// keyID returns the id in a verifier key of the form name+id+base64.
func keyID(vkey string) string { return strings.Split(vkey, "+")[1] }

func verifierOf(t *testing.T, vkey string) note.Verifier {
	t.Helper()
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// refusedBy runs a command that must fail, and returns its exit status and its output.
func (c *cluster) refusedBy(args ...string) (status int, said string) {
	c.t.Helper()
	out, err := exec.CommandContext(c.t.Context(), binary, args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		c.t.Errorf("chainstore %s: %v", strings.Join(args, " "), err)
		return 0, string(out)
	}
	return exit.ExitCode(), string(out)
}

// appendForReceipt appends a record, waits until it is stored, and returns the receipt of the append response.
func (c *cluster) appendForReceipt(o *oracle, payload string) []byte {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.File().Masters[0]+
		"/v1/records?wait=stored&timeout=30s", strings.NewReader(payload))
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.projectToken())
	answer, err := cmp.Or(c.Topology().HTTP, http.DefaultClient).Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // read only
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusCreated {
		c.t.Fatalf("append: %s: %s, %v", answer.Status, body, err)
	}
	var said struct {
		wire.Position
		Receipt json.RawMessage `json:"receipt"`
	}
	if err := json.Unmarshal(body, &said); err != nil || len(said.Receipt) == 0 {
		c.t.Fatalf("append: %s, %v", body, err)
	}
	o.ack([]client.Entry{{Payload: []byte(payload)}}, []wire.Position{said.Position})
	return said.Receipt
}

// checkPublicly checks a receipt with third-party libraries, except for the two hashes that are specific to
// ChainStore.
func checkPublicly(t *testing.T, receipt []byte, vkey string) {
	t.Helper()
	var r struct {
		Origin string `json:"origin"`
		wire.Proof
		TreeSize   uint64 `json:"tree_size"`
		Checkpoint string `json:"checkpoint"`
	}
	d := json.NewDecoder(bytes.NewReader(receipt))
	if err := d.Decode(&r); err != nil {
		t.Fatal(err)
	}
	signed, _, _, err := log.ParseCheckpoint([]byte(r.Checkpoint), r.Origin, verifierOf(t, vkey))
	if err != nil {
		t.Fatal(err)
	}
	header := r.Header.Header()
	check := func(what string, index, size uint64, leaf []byte, path [][]byte, root []byte) {
		t.Helper()
		hash := rfc6962.DefaultHasher.HashLeaf(leaf)
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, hash, path, root); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	var record, seal [][]byte
	for _, h := range r.RecordPath {
		record = append(record, h[:])
	}
	for _, h := range r.SealPath {
		seal = append(seal, h[:])
	}
	check("the record in its block's tree", r.Index, header.Seal(), r.LeafData, record, header.Root[:])
	check("the block's seal in the checkpoint's tree", header.Seal(), signed.Size, header.AppendTo(nil), seal,
		signed.Hash)
	if signed.Size != r.TreeSize {
		t.Errorf("the checkpoint is of %d leaves, the receipt of %d", signed.Size, r.TreeSize)
	}
}
