// Package records has the commands that append and read records: append, get, list, tail, receipt and stream.
package records

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// textType is the default media type of records that were lines.
const textType = "text/plain; charset=utf-8"

// appending is one run of the append command.
type appending struct {
	lines          bool
	keepNewlines   bool
	wait           bool
	timeout        time.Duration
	key, typ       string
	idempotencyKey string
	stream         string // "" for none
	receipt        string // file for the receipt, "" for none

	*cli.Call
	in   io.Reader
	size int64 // bytes left to read, -1 if unknown
}

// NewAppend appends records.
func NewAppend() *cobra.Command {
	a := &appending{}
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "append [FILE|-]",
		Short: "Append a record, or one for each line",
		Long: `Append the whole input as one record, or with --lines one record for each line. The input is FILE, or
the standard input.

A position is printed when a majority of the masters has the record on disk. From then on the record is durable and
its position is final. With --wait the command also waits until as many storage nodes as the cluster requires have the
record's block, and a checkpoint signed by the cluster covers it. --receipt then writes the record's receipt. Anyone
with a verifier key of the log can check the receipt offline.

With --lines, the line feed at the end of a line is not part of the record, nor is a carriage return right before it.
Empty lines are skipped, and their number is printed. With --keep-newlines records keep their line ends, and no line
is skipped. Records keep the order of the lines. If something fails, the message says how many records are
acknowledged, and up to which line. The first interrupt (Ctrl-C) ends the reading of the input, and the command
waits for the answers to the lines that were sent. The second one ends it at once; the message says which lines may
have been appended too. The exit status is 0 if every line is appended, and 1 otherwise.

With --stream the cluster remembers under a name how many records of the input it has. After an interruption, the same
command with the same input appends only the others. The newest 4,096 of those that are there are compared with the
input, and --json prints their positions again, each with its number. A project has 64 streams. One that was not used
for 7 days may be forgotten for another. With a forgotten name everything is appended again.`,
		Example: `  echo hello | chainstore append --wait
  chainstore append --wait --receipt contract.receipt contract.pdf
  chainstore append --type image/png --key cover cover.png
  chainstore append --lines /var/log/syslog
  chainstore append --lines --stream import-7 records.ndjson
  tail -f app.log | chainstore append --lines --json > positions.ndjson`,
		Args:    cobra.MaximumNArgs(1),
		PreRunE: func(*cobra.Command, []string) error { return a.checkFlags() },
	}, cli.Use{
		JSON: "print the position of each record as a JSON object on a line, in order",
	}, func(c *cli.Call) error {
		a.Call = c
		closeInput, err := a.open()
		if err != nil {
			return err
		}
		defer closeInput()
		if a.lines {
			return a.appendLines(c.Ctx)
		}
		return a.appendWhole(c.Ctx)
	})
	cmd.ValidArgsFunction = nil // the argument is a file
	flags := cmd.Flags()
	flags.BoolVarP(&a.lines, "lines", "l", false, "append one record for each line")
	flags.BoolVar(&a.keepNewlines, "keep-newlines", false, "with --lines: keep the line ends, and empty lines")
	flags.StringVar(&a.stream, "stream", "",
		"with --lines: `name` under which an interrupted command continues: 1 to 64 letters, digits, '.', '-' and '_'")
	flags.StringVar(&a.key, "key", "", "`key` of the record, for your own use; with --lines, of each record")
	flags.StringVar(&a.typ, "type", "", "media `type` of the record (default "+wire.TypeOctets+", with --lines "+
		textType+")")
	flags.StringVar(&a.idempotencyKey, "idempotency-key", "",
		"`key` under which repeated requests append the content once; not with --lines")
	flags.BoolVar(&a.wait, "wait", false, "wait until the records are stored")
	flags.StringVar(&a.receipt, "receipt", "",
		"with --wait: write the record's receipt to this `file`; not with --lines")
	flags.DurationVar(&a.timeout, "timeout", 30*time.Second, "with --wait: the longest time to wait")
	cli.NoFiles(cmd, "key", "type", "stream", "idempotency-key", "timeout")
	return cmd
}

// checkFlags refuses flags that contradict each other.
func (a *appending) checkFlags() error {
	switch {
	case a.keepNewlines && !a.lines:
		return errors.New("--keep-newlines goes with --lines only: without --lines the record is the whole input")
	case a.idempotencyKey != "" && a.lines:
		return errors.New("--idempotency-key is for one record: it does not go with --lines")
	case a.stream != "" && !a.lines:
		return errors.New("--stream goes with --lines only: use --idempotency-key for one record")
	case a.receipt != "" && (a.lines || !a.wait):
		return errors.New("--receipt needs --wait and does not go with --lines")
	case a.timeout <= 0:
		return fmt.Errorf("--timeout %v is not more than 0", a.timeout)
	}
	return nil
}

// open opens the input and finds its size.
func (a *appending) open() (closeInput func(), err error) {
	a.in, a.size = a.Cmd.InOrStdin(), -1
	closeInput = func() {}
	if len(a.Args) == 1 && a.Args[0] != "-" {
		f, err := os.Open(a.Args[0])
		if err != nil {
			return nil, err
		}
		a.in, closeInput = f, func() { _ = f.Close() } // only read
	}
	f, ok := a.in.(*os.File)
	if !ok {
		return closeInput, nil
	}
	info, err := f.Stat()
	if err != nil {
		return closeInput, nil // it may still be readable
	}
	switch {
	case info.IsDir():
		closeInput()
		return nil, fmt.Errorf("%s is a folder: name a file", f.Name())
	case info.Mode().IsRegular():
		a.size = info.Size()
		if at, err := f.Seek(0, io.SeekCurrent); err == nil {
			a.size -= at
		}
	case render.IsTerminal(f):
		fmt.Fprintln(a.Cmd.ErrOrStderr(), "reading from the terminal; Ctrl-D at the start of a line ends the input")
	}
	return closeInput, nil
}

// reader returns the input. Reads that may block end with ctx.
func (a *appending) reader(ctx context.Context) io.Reader {
	if a.size >= 0 {
		return a.in
	}
	return newStoppable(ctx, a.in)
}

// appendWhole appends the input as one record.
func (a *appending) appendWhole(ctx context.Context) error {
	if a.size > chain.MaxPayload {
		return fmt.Errorf("the input has %d bytes, a record has at most %d", a.size, chain.MaxPayload)
	}
	payload, err := io.ReadAll(io.LimitReader(a.reader(ctx), chain.MaxPayload+1))
	if err != nil {
		return fmt.Errorf("read the input: %w; nothing was appended", err)
	}
	if len(payload) > chain.MaxPayload {
		return fmt.Errorf("the input has more than %d bytes, the limit of a record", chain.MaxPayload)
	}
	if len(payload) == 0 {
		return errors.New("the input is empty: a record has at least one byte")
	}
	entry := client.Entry{Payload: payload, Key: a.key, Type: a.typ, IdempotencyKey: a.idempotencyKey}
	var at wire.Appended
	var waitErr error
	if a.wait {
		at, waitErr, err = a.appendWait(ctx, entry)
	} else {
		at.Position, err = a.Append(ctx, entry)
	}
	if err != nil {
		return withRetryHint(err)
	}
	if a.JSON {
		_, err = a.Out.Write(append(at.AppendJSON(nil), '\n'))
	} else {
		_, err = fmt.Fprintf(a.Out, "1 record appended at %s (index %d), %s\n", place(at.Position), at.Index, at.State)
	}
	return errors.Join(err, waitErr)
}

// longestServerWait is the longest time that a master lets an append wait.
const longestServerWait = time.Minute

// appendWait appends a record, waits until it is stored and, with --receipt, writes its receipt. waitErr is an error
// after the append succeeded.
func (a *appending) appendWait(ctx context.Context, entry client.Entry) (at wire.Appended, waitErr, err error) {
	deadline := time.Now().Add(a.timeout)
	at, err = a.AppendWait(ctx, entry, min(a.timeout, longestServerWait))
	if errors.Is(err, client.ErrReceipt) {
		return at, err, nil
	}
	if err != nil {
		return at, nil, err
	}
	if at.State != wire.StateStored {
		if waitErr = a.waitStored(ctx, at.Block, time.Until(deadline)); waitErr == nil {
			at.State = wire.StateStored
		}
	}
	if a.receipt != "" && waitErr == nil {
		waitErr = a.writeReceipt(ctx, &at, time.Until(deadline))
	}
	return at, waitErr, nil
}

// writeReceipt writes the receipt of a stored record. It requests the receipt if the append did not return one.
func (a *appending) writeReceipt(ctx context.Context, at *wire.Appended, limit time.Duration) error {
	later := fmt.Sprintf("get it later with 'chainstore receipt %d %d'", at.Block, at.Offset)
	if at.Receipt == nil {
		receipt, err := a.awaitReceipt(ctx, at, limit)
		if err != nil {
			return fmt.Errorf("appended and stored, but there is no receipt: %w; %s", err, later)
		}
		at.Receipt = receipt
	}
	data, err := render.JSONLine(at.Receipt)
	if err == nil {
		err = durable.WriteFile(a.receipt, data, receiptMode)
	}
	if err != nil {
		return fmt.Errorf("appended and stored, but the receipt could not be written: %w; %s", err, later)
	}
	return nil
}

// awaitReceipt requests a receipt until a checkpoint covers the record.
func (a *appending) awaitReceipt(
	ctx context.Context, at *wire.Appended, limit time.Duration,
) (receipt *wire.Receipt, err error) {
	late := fmt.Errorf("no checkpoint covered it within %v", a.timeout)
	err = poll(ctx, limit, late, func(ctx context.Context) (bool, error) {
		r, err := a.ReceiptAt(ctx, at.Block, at.Offset)
		if errors.Is(err, wire.ErrNotCovered) {
			return false, nil
		}
		receipt = &r
		return err == nil, err
	})
	return receipt, err
}

// waitStored waits until the blocks up to and including block are stored.
func (a *appending) waitStored(ctx context.Context, block uint64, limit time.Duration) error {
	late := fmt.Errorf("appended, and not stored within %v: a majority of the masters has it, so do not append it "+
		"again", a.timeout)
	err := poll(ctx, limit, late, func(ctx context.Context) (bool, error) {
		status, err := a.Cluster(ctx)
		return status.Stored > block, err
	})
	switch {
	case err == nil || errors.Is(err, late):
		return err
	case ctx.Err() != nil:
		return errors.New("appended, but stopped while waiting for it to be stored")
	}
	return fmt.Errorf("appended, but the stored height is not available: %w", err)
}

// pollPause is the time between two requests for the stored height or a receipt.
const pollPause = 100 * time.Millisecond

// poll calls try until it is done or fails. It returns late when the limit is reached.
func poll(
	ctx context.Context, limit time.Duration, late error, try func(context.Context) (done bool, err error),
) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	for {
		done, err := try(ctx)
		switch {
		case done && err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollPause):
		}
	}
}

// withRetryHint adds to an error of unknown outcome how to retry the append.
func withRetryHint(err error) error {
	var unknown *client.UnknownOutcomeError
	if errors.As(err, &unknown) {
		return fmt.Errorf("%w; the record may or may not have been appended: give the same input again with "+
			"--idempotency-key %s, which appends it once", unknown.Err, unknown.IdempotencyKey)
	}
	return err
}

// place formats a position.
func place(at wire.Position) string { return fmt.Sprintf("block %d, offset %d", at.Block, at.Offset) }
