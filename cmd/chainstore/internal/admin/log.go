package admin

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewLog is the parent of the commands on the transparency log: the tree that the cluster signs.
func NewLog() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "log",
		Short: "Show the log's keys and checkpoints, back up and change its keys",
		Long: `Show the transparency log: the tree that the cluster signs. Auditors verify checkpoints and receipts
with the keys of the log, so give them these keys by a channel other than the cluster itself.`,
	}, newLogShowCommand(), newLogKeyCommand(), newLogWitnessesCommand(), newLogCheckpointCommand(),
		newLogCloseCommand())
}

func newLogShowCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "show",
		Short: "Show the log's name, size and keys, including retired keys",
	}, cli.Use{Role: cli.AsAnyone, JSON: "print one JSON object"}, func(c *cli.Call) error {
		log, err := c.Log(c.Ctx)
		if err != nil {
			return err
		}
		return c.Print(log, logText(&log))
	})
}

// logText formats the log as tables.
func logText(log *wire.Log) string {
	size, readers := "shown only with a token", "everyone"
	if log.Size != nil {
		size = strconv.FormatUint(*log.Size, 10)
	}
	if log.Private {
		readers = "holders of a token of the cluster"
	}
	about := render.Table(render.Row{"origin", cmp.Or(log.Origin, "-")}, render.Row{"size", size},
		render.Row{"open to", readers})
	titles := render.Row{"KEY", "SINCE", "RETIRED", "VERIFIER KEY"}
	keys := render.Rows(titles, log.Keys, func(k *wire.LogKey) render.Row {
		return render.Row{k.ID, render.LocalTime(k.Since), render.OrDash(k.Retired, render.LocalTime), k.VerifierKey}
	})
	text := about + "\n" + render.Table(keys...)
	for i := range log.Closed {
		c := &log.Closed[i]
		text += "\n" + render.Table(render.Row{"closed log", c.Origin}, render.Row{"since", render.LocalTime(c.Closed)},
			render.Row{"because", c.Reason}, render.Row{"last trusted tree", fmt.Sprintf("%d leaves", c.Size)},
			render.Row{"its root", c.Root})
	}
	return text
}

// newLogKeyCommand prints the signing keys, and is the parent of the commands that change them.
func newLogKeyCommand() *cobra.Command {
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "key",
		Short: "Print the log's signing keys as verifier keys, or change them",
		Long: `Print the verifier keys of the log's signing keys, one a line (C2SP signed-note), in the form that
'chainstore verify --key' accepts.

To replace a key, run 'chainstore log key add', give the new verifier key to all verifiers, and then run 'chainstore
log key retire' for the old key. Signatures of the old key stay valid for verifiers that keep its verifier key. See
docs/operations.md.`,
		Example: `  chainstore log key > log.vkey
  chainstore log key add --admin-token-file admin.token
  chainstore log key retire 9d2a7c31 --admin-token-file admin.token`,
	}, cli.Use{Role: cli.AsAnyone, JSON: "print one JSON object a line for each key"}, func(c *cli.Call) error {
		log, err := c.Log(c.Ctx)
		if err != nil {
			return err
		}
		keys := slices.DeleteFunc(log.Keys, func(k wire.LogKey) bool { return k.Retired != 0 })
		return cli.PrintList(c, keys, keysText(keys...))
	})
	cmd.AddCommand(newLogKeyAddCommand(), newLogKeyRetireCommand())
	return cmd
}

// keysText lists the verifier keys, one a line.
func keysText(keys ...wire.LogKey) (text string) {
	for _, k := range keys {
		text += render.Plain(k.VerifierKey) + "\n"
	}
	return text
}

func newLogKeyAddCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "add",
		Short: "Add a signing key and print its verifier key",
		Long: `Add a signing key and print its verifier key. From then on every checkpoint also has a signature of
this key. The private key leaves the masters only through 'chainstore log backup'.`,
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object"}, func(c *cli.Call) error {
		k, err := c.AddLogKey(c.Ctx)
		if err != nil {
			return err
		}
		return c.Print(k, keysText(k))
	})
}

func newLogKeyRetireCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "retire KEY-ID",
		Short: "Retire a signing key permanently",
		Long: `Retire a signing key permanently. Its signatures stay valid for verifiers that keep its verifier key.
The private key is deleted from the masters' table. Older raft log entries and snapshots keep it, encrypted under the
secret of the masters, until they are dropped, and backups keep it. If a key was stolen, use 'chainstore log close'
instead: verifiers that trust the key accept what the thief signs.

The last signing key cannot be retired, nor the last one that the masters' secret decrypts: add its successor first.`,
		Args: cli.ExactArgs("one key by its id"),
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		if err := c.RetireLogKey(c.Ctx, c.Args[0]); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.Out, "key %s is retired\n", render.Plain(c.Args[0]))
		return err
	})
}

func newLogCloseCommand() *cobra.Command {
	var closing wire.CloseLog
	var trusted string
	var yes bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "close NEW-NAME",
		Short: "Close the log after the theft of a key, and continue it under another name and key",
		Long: `Close the log under its present name and keys, and continue the same tree under another name with a new
key: after the theft of a private key, with which others can sign in the name of the log. All present keys are retired.

The signatures of the closed log are to be trusted up to one tree: that of --trusted, a checkpoint from before the theft
that a witness or an auditor has kept, or the newest. The masters check that it is a part of their tree, and sign a
statement that names it with the new key. Auditors who give the new key to 'chainstore verify --url' continue with
their state. The command prints the new verifier key: publish it as you published the first one, and give it to
witnesses. It needs the admin token. It cannot be undone.`,
		Example: `  chainstore log close example.com/log/2 --reason "key stolen" --trusted monday.checkpoint`,
		Args:    cli.ExactArgs("the new name of the log"),
		PreRunE: func(cmd *cobra.Command, args []string) error {
			if err := wire.CheckClosingReason(closing.Reason); err != nil {
				return fmt.Errorf("--reason: %w", err)
			}
			if !yes && !render.IsTerminal(cmd.InOrStdin()) {
				return fmt.Errorf("there is no terminal to ask on: to continue the log as %s give --yes", args[0])
			}
			return nil
		},
	}, cli.Use{Role: cli.AsAdmin, JSON: "print the new key as one JSON object"}, func(c *cli.Call) error {
		closing.Origin = c.Args[0]
		if trusted != "" {
			note, err := os.ReadFile(trusted)
			if err != nil {
				return fmt.Errorf("--trusted: %w", err)
			}
			closing.Trusted = string(note)
		}
		if !yes {
			sure, err := cli.Confirm(c.Cmd.InOrStdin(), c.Cmd.ErrOrStderr(), fmt.Sprintf("Retire all keys of the log, "+
				"and continue it as %s with a new key? This cannot be undone. [y/N] ", render.Plain(closing.Origin)))
			if err != nil {
				return err
			}
			if !sure {
				return errors.New("nothing was changed")
			}
		}
		k, err := c.CloseLog(c.Ctx, closing)
		if err != nil {
			return err
		}
		return c.Print(k, keysText(k))
	})
	flags := cmd.Flags()
	flags.StringVar(&closing.Reason, "reason", "", "why, one line for verifiers (required)")
	flags.StringVar(&trusted, "trusted", "", "file with the last checkpoint to be trusted (default: the newest)")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func newLogCheckpointCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "checkpoint",
		Short: "Print the newest checkpoint, a signed note, without verifying it",
		Long: `Print the newest checkpoint unchanged: a signed note (C2SP tlog-checkpoint) with the log's name, the
size and the root of its tree, and signatures. Nothing is verified: use 'chainstore verify --url' for that.`,
	}, cli.Use{Role: cli.AsAnyone}, func(c *cli.Call) error {
		note, err := c.Checkpoint(c.Ctx)
		if err != nil {
			return err
		}
		_, err = c.Out.Write(note)
		return err
	})
}
