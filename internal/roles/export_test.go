package roles

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/verify"
	"github.com/chainstore/chainstore/verify/export"
	"github.com/chainstore/chainstore/wire"
)

// storageFolder creates the folder of a storage node of group "g" that has received order 3.9, with the chain of a log.
func storageFolder(t *testing.T, blocks []chain.Block) string {
	t.Helper()
	dir := t.TempDir()
	node, err := storagenode.Open(storagenode.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i := range blocks {
		if _, err := node.Put(t.Context(), uint64(i), blocks[i].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	id, _, err := worker.LoadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	id.ID, id.AccessToken, id.Group = "s-1", "secret-access", "g"
	if err := id.Save(dir); err != nil {
		t.Fatal(err)
	}
	fence, err := worker.OpenFence(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := fence.Pass(wire.Order{Epoch: 3, Term: 9}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unsigned returns a checkpoint of a chain's first blocks without a valid signature, which is not verified here.
func unsigned(t *testing.T, blocks []chain.Block) string {
	t.Helper()
	v := chain.NewVerifier(chain.Head{})
	for i := range blocks {
		if _, err := v.Take(&blocks[i]); err != nil {
			t.Fatal(err)
		}
	}
	root := v.Head().Tree.Root()
	return fmt.Sprintf("chainstore/g\n%d\n%s\n\n— x AAAAAAAA\n", v.Head().Tree.Size(),
		base64.StdEncoding.EncodeToString(root[:]))
}

// sized changes the size in a checkpoint.
func sized(checkpoint string, from, to int) string {
	return strings.Replace(checkpoint, fmt.Sprintf("\n%d\n", from), fmt.Sprintf("\n%d\n", to), 1)
}

// exported returns a log, the folder of a storage node with its chain, and an export of it.
func exported(t *testing.T) (l *survivorLog, dir, file string) {
	t.Helper()
	l = newSurvivor(t)
	l.grow(7, "record")
	dir, file = storageFolder(t, l.blocks()), filepath.Join(t.TempDir(), "chain.export")
	last := int64(0)
	end, err := ExportStorage(t.Context(), ExportConfig{
		Data: dir, Out: file, Keys: []string{"a key"},
		Checkpoints: []string{unsigned(t, l.blocks()[:3]), unsigned(t, l.blocks())},
		Progress: func(done, total int64) {
			if done < last || done > total {
				t.Errorf("%d of %d after %d", done, total, last)
			}
			last = done
		},
	})
	head := l.state.Head()
	if err != nil || end.Height != 7 || end.Hash != head.Hash || end.Size != head.Tree.Size() ||
		end.Root != head.Tree.Root() || last == 0 {
		t.Fatalf("%+v, %v", end, err)
	}
	return l, dir, file
}

// tree lists the files below a folder.
func tree(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestExportAndImport(t *testing.T) {
	l, from, file := exported(t)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	report, err := verify.Export(t.Context(), bytes.NewReader(data), verify.ExportOptions{AllowNoKey: true})
	if err != nil || !report.Good() || report.Height != 7 || report.Records != 28 || len(report.Checkpoints) != 2 ||
		report.Checkpoints[0].Size != 15 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, dir := range []string{filepath.Join(t.TempDir(), "deep", "storage"), t.TempDir()} {
		end, err := ImportStorage(t.Context(), ImportConfig{File: file, Data: dir + "/", SegmentBytes: 500})
		if err != nil || end.Height != 7 {
			t.Fatalf("%+v, %v", end, err)
		}
		was, err := audit.Verify(t.Context(), from, nil)
		if err != nil {
			t.Fatal(err)
		}
		is, err := audit.Verify(t.Context(), dir, nil)
		if err != nil || is.Hash != was.Hash || is.Height != 7 || is.Records != 28 || is.Torn != 0 {
			t.Errorf("%+v, %v, it was %+v", is, err, was)
		}
		id, err := worker.ReadIdentity(dir)
		if err != nil || id.Group != "g" || id.ID != "" || id.AccessToken != "" || id.MasterToken == "" {
			t.Errorf("%+v, %v", id, err)
		}
		fence, err := worker.OpenFence(dir)
		if err != nil {
			t.Fatal(err)
		}
		if order, _ := fence.Highest(); order != (wire.Order{Epoch: 3, Term: 9}) {
			t.Errorf("the fence stands at %v", order)
		}
		if _, err := os.Stat(dir + ".import"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("something is left beside it: %v", err)
		}
		// The export of the import is the same file.
		again := filepath.Join(t.TempDir(), "again")
		if _, err := ExportStorage(t.Context(), ExportConfig{
			Data: dir, Out: again, Keys: []string{"a key"},
			Checkpoints: []string{unsigned(t, l.blocks()[:3]), unsigned(t, l.blocks())},
		}); err != nil {
			t.Fatal(err)
		}
		if second, err := os.ReadFile(again); err != nil || !bytes.Equal(second, data) {
			t.Errorf("the export of the import has %d bytes, %v, not the %d", len(second), err, len(data))
		}
	}
}

// TestExportEndsAtTheNewestCheckpoint checks that an export ends at the newest checkpoint, so that all of it is signed,
// and that the omitted blocks are reported.
func TestExportEndsAtTheNewestCheckpoint(t *testing.T) {
	l := newSurvivor(t)
	l.grow(7, "record")
	dir := storageFolder(t, l.blocks())
	some := []string{unsigned(t, l.blocks()[:3]), unsigned(t, l.blocks()[:5]), unsigned(t, nil)}
	for _, c := range []struct {
		name                     string
		checkpoints              []string
		tail                     bool
		height, covered, leftOut uint64
	}{
		{"none", nil, false, 7, 0, 0},
		{"none, with its tail", nil, true, 7, 0, 0},
		{"some", some, false, 5, 5, 2},
		{"some, with its tail", some, true, 7, 5, 0},
		{"all", []string{unsigned(t, l.blocks())}, false, 7, 7, 0},
		{"of nothing, with its tail", []string{unsigned(t, nil)}, true, 7, 0, 0},
	} {
		out := filepath.Join(t.TempDir(), "out")
		end, err := ExportStorage(t.Context(), ExportConfig{Data: dir, Out: out, Checkpoints: c.checkpoints,
			UnsignedTail: c.tail})
		if err != nil || end.Height != c.height || end.Covered != c.covered || end.LeftOut != c.leftOut ||
			end.Hash != l.blocks()[c.height-1].Header.Hash() {
			t.Errorf("%s: %+v, %v", c.name, end, err)
			continue
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		report, err := verify.Export(t.Context(), bytes.NewReader(data), verify.ExportOptions{AllowNoKey: true})
		if err != nil || !report.Good() || report.Height != c.height || report.Hash != end.Hash ||
			len(report.Checkpoints) != len(c.checkpoints) {
			t.Errorf("%s: %+v, %v", c.name, report, err)
		}
	}
	empty := filepath.Join(t.TempDir(), "out")
	if end, err := ExportStorage(t.Context(), ExportConfig{Data: storageFolder(t, nil), Out: empty,
		Checkpoints: []string{unsigned(t, nil)}}); err != nil || end.Height != 0 {
		t.Errorf("of nothing: %+v, %v", end, err)
	}
}

// TestImportWithoutAGroup checks that a chain that was never part of a cluster gets a group, which can be founded from
// it.
func TestImportWithoutAGroup(t *testing.T) {
	l := newSurvivor(t)
	l.grow(2, "record")
	from := storageFolder(t, l.blocks())
	if err := os.Remove(filepath.Join(from, "identity.json")); err != nil {
		t.Fatal(err)
	}
	file, dir := filepath.Join(t.TempDir(), "chain.export"), filepath.Join(t.TempDir(), "storage")
	if _, err := ExportStorage(t.Context(), ExportConfig{Data: from, Out: file}); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportStorage(t.Context(), ImportConfig{File: file, Data: dir}); err != nil {
		t.Fatal(err)
	}
	if id, err := worker.ReadIdentity(dir); err != nil || len(id.Group) != 16 || strings.ToLower(id.Group) != id.Group {
		t.Errorf("group %q, %v", id.Group, err)
	}
}

// TestRecoverFromAnImport founds a group from an imported folder. The node must give its chain to the recovery, which
// must take over all of it in the same group, in an epoch that the node accepts.
func TestRecoverFromAnImport(t *testing.T) {
	l, _, file := exported(t)
	dir := filepath.Join(t.TempDir(), "storage")
	if _, err := ImportStorage(t.Context(), ImportConfig{File: file, Data: dir}); err != nil {
		t.Fatal(err)
	}
	cfg := DefaultStorage()
	cfg.Data, cfg.HTTP, cfg.Masters = dir, freePorts(t, 1)[0], []string{"http://127.0.0.1:1"}
	cfg.ClusterToken, cfg.Logger = "the cluster token", hclog.NewNullLogger()
	node, err := OpenStorage(cfg)
	if err != nil {
		t.Fatal(err)
	}
	node.quiet = shortQuiet
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	asking := noderpc.NewMasters(noderpc.NewTransport(), nodeauth.Shared("the cluster token").For(nodeauth.Recovery))
	defer asking.CloseIdle()
	done, err := RecoverMaster(t.Context(), RecoverConfig{
		Data: t.TempDir(), Raft: freePorts(t, 1)[0], Secret: []string{"the cluster token"},
		FromStorage: []string{node.url}, quiet: shortQuiet,
		Confirm: func(Recovery) error { return nil }, Logger: hclog.NewNullLogger(),
	})
	if err != nil || done.Group != "g" || done.Epoch != 4 || done.ChainHeight != 7 || done.Adopted != 7 {
		t.Errorf("%+v, %v", done, err)
	}
	status, err := asking.ChainStatus(t.Context(), node.url)
	if err != nil || status.Hash != l.state.Head().Hash || status.Group != "g" || status.Epoch != 4 {
		t.Errorf("%+v, %v", status, err)
	}
}

func TestExportRefused(t *testing.T) {
	l, dir, file := exported(t)
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ahead := l.fork()
	ahead.grow(1, "more")
	other := newSurvivor(t)
	other.grow(3, "other")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	fresh := func(t *testing.T) string { return filepath.Join(t.TempDir(), "out") }
	for _, c := range []struct {
		name string
		ctx  context.Context
		cfg  ExportConfig
		want string
	}{
		{"there already", t.Context(), ExportConfig{Data: dir, Out: file}, "exists: nothing is overwritten"},
		{"no folder", t.Context(), ExportConfig{Data: t.TempDir(), Out: fresh(t)},
			"not the data folder of a storage node"},
		{"nowhere to put it", t.Context(), ExportConfig{Data: dir, Out: filepath.Join(t.TempDir(), "missing", "out")},
			"no such file"},
		{"no checkpoint", t.Context(), ExportConfig{Data: dir, Out: fresh(t), Checkpoints: []string{"x"}},
			"not a checkpoint"},
		{"ahead", t.Context(),
			ExportConfig{Data: dir, Out: fresh(t), Checkpoints: []string{unsigned(t, ahead.blocks())}},
			"does not have all that the checkpoint covers yet"},
		{"within a block", t.Context(), ExportConfig{Data: dir, Out: fresh(t), Checkpoints: []string{sized(unsigned(t,
			l.blocks()), 35, 34)}}, "end inside a block"},
		{"nothing signed", t.Context(), ExportConfig{Data: dir, Out: fresh(t), Checkpoints: []string{unsigned(t,
			nil)}}, "covers none of the 7 blocks"},
		{"another chain", t.Context(),
			ExportConfig{Data: dir, Out: fresh(t), Checkpoints: []string{unsigned(t, other.blocks())}},
			"is not that of the checkpoint"},
		{"stopped", cancelled, ExportConfig{Data: dir, Out: fresh(t)}, "canceled"},
	} {
		_, err := ExportStorage(c.ctx, c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(c.cfg.Out), ".*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %q", c.name, left)
		}
		if _, err := os.Stat(c.cfg.Out); c.cfg.Out != file && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a file is there: %v", c.name, err)
		}
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
		t.Errorf("an export was overwritten: %v", err)
	}

	segments, err := filepath.Glob(filepath.Join(dir, "segments", "*"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, []byte("record4 2"))] ^= 1
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ExportStorage(t.Context(), ExportConfig{Data: dir, Out: fresh(t)}); err == nil ||
		!strings.Contains(err.Error(),
			"is damaged, and no export was written: export from another storage node: block 4") {
		t.Errorf("a damaged chain: %v", err)
	}
}

func TestImportRefused(t *testing.T) {
	_, _, file := exported(t)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	dir, bad := filepath.Join(parent, "storage"), filepath.Join(t.TempDir(), "bad")
	refused := func(name string, data []byte, want string) {
		t.Helper()
		if err := os.WriteFile(bad, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ImportStorage(t.Context(), ImportConfig{File: bad, Data: dir}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if left := tree(t, parent); len(left) != 1 {
			t.Errorf("%s: %q is left", name, left)
		}
	}
	for n := 0; n < len(whole); n += 37 {
		refused(fmt.Sprintf("cut at %d", n), whole[:n], "cut short")
		flipped := bytes.Clone(whole)
		flipped[n] ^= 4
		refused(fmt.Sprintf("flipped at %d", n), flipped, export.ErrFormat.Error())
	}
	refused("one byte less", whole[:len(whole)-1], "cut short")
	refused("one byte more", append(bytes.Clone(whole), 0), "more behind its end")

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ImportStorage(cancelled, ImportConfig{File: file, Data: dir}); !errors.Is(err, context.Canceled) ||
		len(tree(t, parent)) != 1 {
		t.Errorf("stopped: %v, %q", err, tree(t, parent))
	}
	if err := os.Mkdir(dir+".import", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportStorage(t.Context(), ImportConfig{File: file, Data: dir}); err == nil ||
		!strings.Contains(err.Error(), "or an interrupted one left it") {
		t.Errorf("beside what another import left: %v", err)
	}
	if err := os.Remove(dir + ".import"); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportStorage(t.Context(), ImportConfig{File: file, Data: dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportStorage(t.Context(), ImportConfig{File: file, Data: dir}); err == nil ||
		!strings.Contains(err.Error(), "is not empty") {
		t.Errorf("a second time: %v", err)
	}
	// The import contains no token of the exported node.
	for _, path := range tree(t, dir) {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte("secret-access")) {
			t.Errorf("%s holds a token of another node", path)
		}
	}
	if bytes.Contains(whole, []byte("secret-access")) {
		t.Error("the export holds a token")
	}
}
