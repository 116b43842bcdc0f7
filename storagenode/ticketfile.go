package storagenode

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"path/filepath"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// The file "repair" tells for which ticket the chain was cut, or found to need no cut (big endian):
//
//	magic "CSRP" ‖ version u8 = 1 ‖ 0 0 0 ‖ SHA-256 of the ticket ‖ CRC-32C u32 of all before
//
// A ticket cuts once. After a start the leader opens the same one again, and what was received under it is behind the cut by then.
const (
	ticketMagic   = "CSRP"
	ticketVersion = 1
)

func (n *Node) ticketPath() string { return filepath.Join(n.cfg.Dir, "repair") }

func ticketFile(ticket string) []byte {
	data := append([]byte(ticketMagic), ticketVersion, 0, 0, 0)
	sum := sha256.Sum256([]byte(ticket))
	data = append(data, sum[:]...)
	return binary.BigEndian.AppendUint32(data, segment.Checksum(data))
}

// hasCut reports whether the chain was cut for a ticket. A file that is damaged is of none.
func (n *Node) hasCut(ticket string) (bool, error) {
	data, err := durable.ReadFile(n.ticketPath())
	if durable.Absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(data) > 4 && string(data[:4]) == ticketMagic && data[4] > ticketVersion {
		return false, fmt.Errorf("%s: %w: version %d, this program knows %d", n.ticketPath(), ErrNewerFormat, data[4], ticketVersion)
	}
	return string(data) == string(ticketFile(ticket)), nil
}

// cutFor cuts the chain for a ticket, unless that was done before; life is held alone.
func (n *Node) cutFor(ticket string, keep uint64) error {
	before, err := n.hasCut(ticket)
	if err != nil || before {
		return err
	}
	if keep < n.Status().Height {
		if err := n.cut(keep); err != nil {
			return err
		}
	}
	if err := n.cfg.writeFile(n.ticketPath(), ticketFile(ticket), 0o600); err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.fail(err)
	}
	return nil
}
