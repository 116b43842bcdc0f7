package storagenode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// misplaced is something that stands in the place of a file or a folder of the node.
type misplaced struct {
	path  string
	text  string // for people: what stands there, and what is due
	block uint64 // the first block of a segment, 0 for other files
}

// folderNames are the folders of the node.
var folderNames = []string{"segments", "tiles", "records", "inbox", "quarantine"}

// findMisplaced lists what stands in the place of the node's files and folders. It changes nothing.
//
// A folder may be a symbolic link to a folder, and a segment a link to a file: an operator may have put them on another
// disk. The node creates and truncates all other files, so following a link there would write outside its folder.
//
// The error is the disk's, or says that segments/ is a link to nowhere. Its disk is then taken to be away: its blocks
// do not count as missing.
func (n *Node) findMisplaced() ([]misplaced, error) {
	var list []misplaced
	look := func(path string, folder, links bool, block uint64) (there bool, err error) {
		m, err := n.lookAt(path, folder, links, block)
		if m != nil {
			list = append(list, *m)
		}
		return m == nil, err
	}
	within := map[string]bool{}
	for _, name := range folderNames {
		path := filepath.Join(n.cfg.Dir, name)
		there, err := look(path, true, true, 0)
		if err != nil {
			return nil, err
		}
		if within[name] = there; name != "segments" || there {
			continue
		}
		if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return nil, fmt.Errorf(
				"%s is a symbolic link that leads to no folder: mount its disk, or remove the link to begin without blocks", path)
		}
	}
	files := []string{n.indexPath(), lostPath(n.cfg.Dir), n.ticketPath(), n.runningPath()}
	if within["tiles"] {
		files = append(append(files, n.syncedPath()), tiles.Paths(n.tilesDir())...)
	}
	for folder, pattern := range map[string]string{"records": "*.run*", "inbox": "*" + inboxSuffix} {
		if !within[folder] {
			continue
		}
		found, err := filepath.Glob(filepath.Join(n.cfg.Dir, folder, pattern))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	for _, path := range files {
		if _, err := look(path, false, false, 0); err != nil {
			return nil, err
		}
	}
	if !within["segments"] {
		return list, nil
	}
	firsts, err := segment.List(n.segmentsDir())
	if err != nil {
		return nil, err
	}
	for _, first := range firsts {
		if _, err := look(filepath.Join(n.segmentsDir(), segment.Name(first)), false, true, first); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// lookAt says what stands in the place of one file or folder; nil for nothing else.
func (n *Node) lookAt(path string, folder, links bool, block uint64) (*misplaced, error) {
	found, err := standsAt(path, folder, links)
	if err != nil || found == "" {
		return nil, err
	}
	due := "a file"
	if folder {
		due = "a folder"
	}
	text := fmt.Sprintf("%s: %s stood in the place of %s", relative(n.cfg.Dir, path), found, due)
	return &misplaced{path: path, text: text, block: block}, nil
}

func relative(dir, path string) string {
	return filepath.ToSlash(strings.TrimPrefix(path, filepath.Clean(dir)+string(filepath.Separator)))
}

// standsAt names what stands at a path where a file or a folder is due: "" where that is there, or nothing is.
func standsAt(path string, folder, links bool) (string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if info.Mode()&os.ModeSymlink != 0 && links {
		switch target, err := os.Stat(path); {
		case err == nil:
			info = target
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ELOOP) && !errors.Is(err, syscall.ENOTDIR):
			return "", err
		}
	}
	if folder && info.IsDir() || !folder && info.Mode().IsRegular() {
		return "", nil
	}
	return durable.KindOf(info.Mode()), nil
}

// clear moves to quarantine/ what stands in the place of the node's files and folders, and makes the missing folders.
// The next check that finishes reports it. mu is held, or nobody else has the node yet.
//
// The error wraps ErrFailed, or is the disk's. Some things may not have been moved then.
func (n *Node) clear() error {
	list, err := n.findMisplaced()
	if err != nil {
		return err
	}
	for i := range list {
		if err := n.clearOne(&list[i]); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return nil
	}
	for _, name := range folderNames {
		if err := durable.MkdirAll(filepath.Join(n.cfg.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// clearSegment is clear for the path of one segment.
func (n *Node) clearSegment(path string, first uint64) error {
	m, err := n.lookAt(path, false, true, first)
	if m == nil {
		return err
	}
	return n.clearOne(m)
}

func (n *Node) clearOne(m *misplaced) error {
	to, err := n.moveAside(m.path)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s, and was moved to %s", m.text, relative(n.cfg.Dir, to))
	n.log.Error("something else stood in the place of a file, and was moved aside", "file", m.path, "what", text)
	if len(n.moved) < chain.MaxFindings {
		n.moved = append(n.moved, chain.Finding{Block: m.block, What: chain.WrongFile, Detail: text})
	}
	if m.path == n.runningPath() { // it tells that the node runs
		if err := n.mark(); err != nil {
			return n.fail(err)
		}
	}
	return nil
}

// moveAside moves what stands at a path to quarantine/. It follows no link. The error wraps ErrFailed if a sync failed.
func (n *Node) moveAside(path string) (to string, err error) {
	from := path
	if path == n.quarantineDir() { // first out of the way of the folder that is to hold it
		if from, err = freeName(path); err != nil {
			return "", err
		}
		if err := os.Rename(path, from); err != nil {
			return "", err
		}
	}
	if err := durable.MkdirAll(n.quarantineDir()); err != nil {
		return "", err
	}
	if to, err = n.aside(filepath.Base(path)); err != nil {
		return "", err
	}
	if err := os.Rename(from, to); err != nil {
		return "", err
	}
	if err := errors.Join(durable.SyncDir(n.quarantineDir()), durable.SyncDir(filepath.Dir(path))); err != nil {
		return "", n.fail(err)
	}
	return to, nil
}
