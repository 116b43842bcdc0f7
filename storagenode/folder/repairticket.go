package folder

import (
	"crypto/sha256"
	"errors"

	"github.com/chainstore/chainstore/internal/durable"
)

// The file "repair" names the ticket for which the chain was cut, or found to need no cut (big endian):
//
//	magic "CSRP" ‖ version u8 = 1 ‖ 0 0 0 ‖ SHA-256 of the ticket ‖ CRC-32C u32 of all before
//
// A ticket cuts once. After a start the leader opens the same ticket again. What was received under it is above the cut
// then, and must not be cut off.
var ticketFormat = durable.Format{Magic: "CSRP", Version: 1, Zeros: 3}

// EncodeTicket returns the content of the file "repair".
func EncodeTicket(ticket string) []byte {
	sum := sha256.Sum256([]byte(ticket))
	return ticketFormat.Append(nil, sum[:])
}

// IsTicket reports whether the file "repair" names a ticket. A damaged file names none.
func (d Dir) IsTicket(ticket string) (bool, error) {
	var sum [sha256.Size]byte
	err := ticketFormat.Read(d.Ticket(), func(f *durable.Fields) { copy(sum[:], f.Bytes(sha256.Size)) })
	if durable.Absent(err) || errors.Is(err, durable.ErrDamaged) {
		return false, nil
	}
	return err == nil && sum == sha256.Sum256([]byte(ticket)), err
}
