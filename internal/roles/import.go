package roles

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/verify/export"
	"github.com/chainstore/chainstore/wire"
)

// ImportConfig configures an import.
type ImportConfig struct {
	File         string                  // an export
	Data         string                  // folder of the new storage node: empty or missing
	Rehearsal    bool                    // the node belongs to no group until it registers with one
	SegmentBytes int64                   // size at which a new segment begins; 0 for the default
	AtRestKeys   string                  // file with keys that encrypt the folder; "" for no encryption
	Progress     func(done, total int64) // bytes of the file; may be nil
}

// ImportStorage makes the folder of a storage node from an export. It adds blocks like those that masters send. The
// folder is made under another name and renamed when it is complete, so that a crash leaves no folder that looks
// complete.
//
// The node belongs to the group of the export and has no id in it yet. A recovery from storage founds that group anew,
// and a running group accepts it as a new node.
func ImportStorage(ctx context.Context, cfg ImportConfig) (_ export.End, err error) {
	data := filepath.Clean(cfg.Data)
	if err := mustBeEmpty(data); err != nil {
		return export.End{}, err
	}
	file, err := os.Open(cfg.File)
	if err != nil {
		return export.End{}, err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return export.End{}, err
	}
	r, err := export.NewReader(&ProgressReader{Ctx: ctx, From: file, Total: info.Size(), Progress: cfg.Progress})
	if err != nil {
		return export.End{}, fmt.Errorf("%s: %w", cfg.File, err)
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return export.End{}, fmt.Errorf("%s cannot be replaced; if it is a mount point, name a folder below it: %w",
			data, err)
	}
	unfinished := data + ".import"
	if err := os.Mkdir(unfinished, 0o700); errors.Is(err, fs.ErrExist) {
		return export.End{}, fmt.Errorf("%s exists: another import runs, or an interrupted one left it; remove "+
			"it if none runs", unfinished)
	} else if err != nil {
		return export.End{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(unfinished))
		}
	}()
	if err := fill(unfinished, &cfg, r); err != nil {
		return export.End{}, fmt.Errorf("%s: %w", cfg.File, err)
	}
	if !cfg.Rehearsal {
		if err := introduce(unfinished, r.Group); err != nil {
			return export.End{}, err
		}
	}
	if err := os.Rename(unfinished, data); err != nil {
		return export.End{}, err
	}
	if err := durable.SyncDir(filepath.Dir(data)); err != nil {
		return export.End{}, errors.Join(err, os.RemoveAll(data)) // no role may use it
	}
	return r.End(), nil
}

// mustBeEmpty refuses a folder that is not empty.
func mustBeEmpty(dir string) error {
	if err := durable.MkdirAll(filepath.Dir(dir)); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty, it contains %s: an import makes a folder of its own; name another",
			dir, entries[0].Name())
	}
	return nil
}

// fill adds an export's blocks to a new node.
func fill(dir string, cfg *ImportConfig, r *export.Reader) error {
	keys, err := loadAtRest(cfg.AtRestKeys)
	if err != nil {
		return err
	}
	node, err := storagenode.Open(storagenode.Config{Dir: dir, SegmentBytes: cfg.SegmentBytes, AtRest: keys})
	if err != nil {
		return err
	}
	var last chain.Header
	err = node.PutAll(func() (chain.Block, error) {
		b, err := r.Block()
		if err == nil {
			last = b.Header
		}
		return b, err
	})
	status := node.Status()
	if err = errors.Join(err, node.Close()); err != nil {
		return err
	}
	have := export.End{Height: status.Height, Hash: status.Hash, Root: r.End().Root} // the hash is of the root, too
	if status.Height > 0 {
		have.Size = last.Size()
	}
	if end := r.End(); end != have {
		return fmt.Errorf("%w: its end names %d blocks with hash %v, and it has %d with hash %v",
			export.ErrFormat, end.Height, end.Hash, have.Height, have.Hash)
	}
	return nil
}

// introduce writes the group of the export into a new node's folder, so that no master of another group accepts it, and
// the highest order of the node that was exported.
func introduce(dir string, group export.Group) error {
	id, _, err := worker.LoadIdentity(dir)
	if err != nil {
		return err
	}
	if id.Group = group.ID; id.Group == "" {
		id.Group = strings.ToLower(rand.Text()[:16]) // a chain that was never part of a cluster can found one
	}
	if err := id.Save(dir); err != nil {
		return err
	}
	fence, err := worker.OpenFence(dir)
	if err != nil {
		return err
	}
	return fence.Pass(wire.Order{Epoch: group.Epoch, Term: group.Term})
}

// ProgressReader reads a file, reports its progress, and fails when the context ends.
type ProgressReader struct {
	Ctx         context.Context
	From        io.Reader
	Total, done int64                   // bytes
	Progress    func(done, total int64) // may be nil
}

// Read implements [io.Reader].
func (r *ProgressReader) Read(p []byte) (int, error) {
	if r.Ctx.Err() != nil {
		return 0, context.Cause(r.Ctx)
	}
	n, err := r.From.Read(p)
	if r.done += int64(n); r.Progress != nil {
		r.Progress(r.done, max(r.done, r.Total))
	}
	return n, err
}
