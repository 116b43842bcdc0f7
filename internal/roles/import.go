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

// ImportConfig says what is imported, and where to.
type ImportConfig struct {
	File         string                  // an export
	Data         string                  // folder of the new storage node: empty, or not there yet
	Rehearsal    bool                    // the node is of no group: the first that it registers with is its own
	SegmentBytes int64                   // size at which a new segment is begun, 0 for the default
	Progress     func(done, total int64) // bytes of the file; may be nil
}

// ImportStorage makes the folder of a storage node from an export. Each block goes in as one from the masters does. The folder is made under another name and
// moved into its place when all is there: one that a crash has left behind is not taken for a whole one.
//
// The node is of the group that the export is of, and has no name in it yet: a recovery from storage founds that group anew, and a group that still lives
// takes it for a new node.
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
	in := &importing{ctx: ctx, from: file, total: info.Size(), progress: cfg.Progress}
	r, err := export.NewReader(in)
	if err != nil {
		return export.End{}, fmt.Errorf("%s: %w", cfg.File, err)
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return export.End{}, fmt.Errorf("%s cannot be made anew; where it is a mount point, name a folder below it: %w", data, err)
	}
	unfinished := data + ".import"
	if err := os.Mkdir(unfinished, 0o700); errors.Is(err, fs.ErrExist) {
		return export.End{}, fmt.Errorf("%s is there: an import that was cut short has left it, or one is under way; remove it when none is", unfinished)
	} else if err != nil {
		return export.End{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(unfinished))
		}
	}()
	if err := fill(unfinished, cfg.SegmentBytes, r); err != nil {
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
	return r.End(), durable.SyncDir(filepath.Dir(data))
}

// mustBeEmpty refuses a folder that holds something.
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
		return fmt.Errorf("%s is not empty, it holds %s: an import makes a folder of its own; name another", dir, entries[0].Name())
	}
	return nil
}

// fill puts an export's blocks into a new node.
func fill(dir string, segmentBytes int64, r *export.Reader) error {
	node, err := storagenode.Open(storagenode.Config{Dir: dir, SegmentBytes: segmentBytes})
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
		return fmt.Errorf("%w: its end speaks of %d blocks with hash %v, and %d with %v are there", export.ErrFormat, end.Height, end.Hash, have.Height, have.Hash)
	}
	return nil
}

// introduce gives a new node's folder its group, so that no master of another takes it in, and the highest order of the node that was exported.
func introduce(dir string, group export.Group) error {
	id, _, err := worker.LoadIdentity(dir)
	if err != nil {
		return err
	}
	if id.Group = group.ID; id.Group == "" {
		id.Group = strings.ToLower(rand.Text()[:16]) // a chain that was never part of a cluster can found one all the same
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

// importing reads a file, tells how far it is, and ends with ctx.
type importing struct {
	ctx         context.Context
	from        io.Reader
	done, total int64
	progress    func(done, total int64)
}

func (i *importing) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	n, err := i.from.Read(p)
	if i.done += int64(n); i.progress != nil {
		i.progress(i.done, max(i.done, i.total))
	}
	return n, err
}
