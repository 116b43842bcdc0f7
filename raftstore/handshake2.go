package raftstore

import (
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// Version 2 of the handshake, from protocol level 1 on, in which both sides also show their newest start and what they last heard of the
// other's: see [starts].
//
//	caller: magic "CSRH" ‖ version u8 = 2 ‖ nonce[32] ‖ len8 ‖ group ‖ len8 ‖ caller's id ‖ len8 ‖ id of the member meant ‖
//	        purpose u8 ‖ caller's start ‖ the last start of the callee that the caller accepted
//	callee: nonce[32] ‖ callee's start ‖ the last start of the caller that the callee accepted ‖ mac over "callee" ‖ all before it
//	caller: verdict u8 ‖ mac over "caller" ‖ all before it
//	callee: verdict u8 ‖ mac over "end" ‖ all before it
//
// A verdict of 1 says that the side knows the start that the other last heard of it; then each writes down the other's start, the callee
// before its verdict and the caller after it, and the connection is open. A verdict of 0 says that it does not: its data folder is an older
// copy, it takes part in nothing any more, and the connection is closed. Nothing is believed before the mac that goes with it.
const (
	helloVersionStarts = 2

	purposeRaft     = 0 // the connection is for raft
	purposeAnnounce = 1 // it is closed after the handshake
)

// errStaleFolder: this master's data folder is an older copy: another process has run with a newer one.
var errStaleFolder = errors.New("a master of this group knows of a newer start of this data folder")

// parting is what remains of a handshake of version 2 behind the names.
type parting struct {
	purpose byte
	caller  start
	callee  start // the last that the caller accepted
}

const partingSize = 1 + 2*startSize

func (p parting) appendTo(b []byte) []byte {
	return p.callee.appendTo(p.caller.appendTo(append(b, p.purpose)))
}

func parseParting(b []byte) parting {
	return parting{purpose: b[0], caller: parseStart(b[1:]), callee: parseStart(b[1+startSize:])}
}

// verdict sends whether this side knows the start that the other last heard of it.
func (k handshakeKey) verdict(conn io.Writer, label string, raw []byte, knows bool) error {
	message := []byte{0}
	if knows {
		message[0] = 1
	}
	_, err := conn.Write(append(message, k.mac(label, raw, message)...))
	return err
}

// readVerdict reads what the other side says of itself.
func (k handshakeKey) readVerdict(conn io.Reader, label string, raw []byte) (knows bool, err error) {
	var message [1 + macSize]byte
	if _, err := io.ReadFull(conn, message[:]); err != nil {
		return false, fmt.Errorf("no proof of the cluster token came: %w", err)
	}
	if !hmac.Equal(message[1:], k.mac(label, raw, message[:1])) {
		return false, fmt.Errorf("%w: it has another cluster token", errHandshake)
	}
	return message[0] == 1, nil
}

// callWithStart opens a connection as the caller. opened is called with the callee's last start and
// the present one before that is accepted. The error wraps
// [errStaleFolder] where this master's folder is an older copy, and [ErrDisk] where the callee's start cannot be written down.
func (k handshakeKey) callWithStart(conn io.ReadWriter, h hello, purpose byte, s *starts, opened func(before, now start)) error {
	raw, err := h.encode(helloVersionStarts)
	if err != nil {
		return err
	}
	p := parting{purpose: purpose, caller: s.current(), callee: s.lastOf(h.callee)}
	raw = p.appendTo(raw)
	if _, err := conn.Write(raw); err != nil {
		return err
	}
	var answer [nonceSize + 2*startSize + macSize]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return noAnswer(err)
	}
	body, mac := answer[:len(answer)-macSize], answer[len(answer)-macSize:]
	if !hmac.Equal(mac, k.mac("callee", raw, body)) {
		return fmt.Errorf("%w: the other side has another cluster token", errHandshake)
	}
	raw = append(raw, body...)
	callee, heard := parseStart(body[nonceSize:]), parseStart(body[nonceSize+startSize:])
	knows := s.knows(heard)
	if err := k.verdict(conn, "caller", raw, knows); err != nil {
		return err
	}
	if !knows {
		return fmt.Errorf("%w: %w, as %s says", errHandshake, errStaleFolder, h.callee)
	}
	switch theirs, err := k.readVerdict(conn, "end", raw); {
	case err != nil:
		return err
	case !theirs:
		return fmt.Errorf("%w: master %s runs with an older copy of its data folder; it must join as a new one", errHandshake, h.callee)
	}
	opened(p.callee, callee)
	switch accepted, err := s.accept(h.callee, p.callee, callee); {
	case err != nil:
		return err
	case !accepted:
		return fmt.Errorf("%w: another start of master %s was heard of meanwhile", errHandshake, h.callee)
	}
	s.tell(h.callee, p.caller)
	return nil
}

// answerWithStart takes a connection as the callee, after the hello with its names, and returns the caller's start and what the connection is
// for. opened is called with the caller's last start and the present one before that is accepted. Errors are those of callWithStart.
func (k handshakeKey) answerWithStart(conn io.ReadWriter, h hello, raw []byte, s *starts, opened func(before, now start)) (purpose byte, err error) {
	rest := make([]byte, partingSize)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return 0, fmt.Errorf("%w: %w", errHandshake, err)
	}
	raw = append(raw, rest...)
	p := parseParting(rest)
	heard := s.lastOf(h.caller)
	body := make([]byte, nonceSize, nonceSize+2*startSize+macSize)
	rand.Read(body)
	own := s.current()
	body = heard.appendTo(own.appendTo(body))
	if _, err := conn.Write(append(body, k.mac("callee", raw, body)...)); err != nil {
		return 0, err
	}
	raw = append(raw, body...)
	switch theirs, err := k.readVerdict(conn, "caller", raw); {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", errHandshake, err)
	case !theirs:
		return 0, fmt.Errorf("%w: master %s runs with an older copy of its data folder; it must join as a new one", errHandshake, h.caller)
	}
	if !s.knows(p.callee) {
		err := fmt.Errorf("%w: %w, as %s says", errHandshake, errStaleFolder, h.caller)
		return 0, errors.Join(err, k.verdict(conn, "end", raw, false))
	}
	opened(heard, p.caller)
	switch accepted, err := s.accept(h.caller, heard, p.caller); {
	case err != nil:
		return 0, err
	case !accepted:
		return 0, fmt.Errorf("%w: another start of master %s was heard of meanwhile", errHandshake, h.caller)
	}
	s.tell(h.caller, own)
	return p.purpose, k.verdict(conn, "end", raw, true)
}
