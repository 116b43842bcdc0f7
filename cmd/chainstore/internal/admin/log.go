package admin

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewLog is the parent of the commands on the transparency log: the tree that the cluster signs.
func NewLog() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the log's keys and checkpoints, back up and change its keys",
		Long: `Show the transparency log: the tree that the cluster signs. Auditors verify checkpoints and receipts
with the keys of the log, so give them these keys by a channel other than the cluster itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLogShowCommand(), newLogKeyCommand(), newLogWitnessesCommand(), newLogCheckpointCommand())
	return cmd
}

func newLogShowCommand() *cobra.Command {
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "show",
		Short: "Show the log's name, size and keys, including retired keys",
	}, cli.AsAnyone, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		log, err := c.Log(cmd.Context())
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return render.JSON(out, log)
		}
		return printLog(out, &log)
	})
	cli.AddJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

// printLog prints the log as tables.
func printLog(w io.Writer, log *wire.Log) error {
	size, readers := "shown only with a token", "everyone"
	if log.Size != nil {
		size = strconv.FormatUint(*log.Size, 10)
	}
	if log.Private {
		readers = "holders of a token of the cluster"
	}
	if err := render.Rows(w, [][]string{{"origin", render.Plain(render.OrDash(log.Origin))}, {"size", size},
		{"open to", readers}}); err != nil {
		return err
	}
	rows := [][]string{{"KEY", "SINCE", "RETIRED", "VERIFIER KEY"}}
	for _, k := range log.Keys {
		rows = append(rows, []string{k.ID, render.LocalTime(k.Since), render.TimeOrDash(k.Retired),
			render.Plain(k.VerifierKey)})
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return render.Rows(w, rows)
}

// newLogKeyCommand prints the signing keys, and is the parent of the commands that change them.
func newLogKeyCommand() *cobra.Command {
	var asJSON bool
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
	}, cli.AsAnyone, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		log, err := c.Log(cmd.Context())
		if err != nil {
			return err
		}
		for _, k := range log.Keys {
			if k.Retired != 0 {
				continue
			}
			if err := printLogKey(cmd.OutOrStdout(), k, asJSON); err != nil {
				return err
			}
		}
		return nil
	})
	cli.AddJSON(cmd, &asJSON, "print one JSON object a line for each key")
	cmd.AddCommand(newLogKeyAddCommand(), newLogKeyRetireCommand())
	return cmd
}

func printLogKey(w io.Writer, k wire.LogKey, asJSON bool) error {
	if asJSON {
		return render.JSON(w, k)
	}
	_, err := fmt.Fprintln(w, render.Plain(k.VerifierKey))
	return err
}

func newLogKeyAddCommand() *cobra.Command {
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "add",
		Short: "Add a signing key and print its verifier key",
		Long: `Add a signing key and print its verifier key. From then on every checkpoint also has a signature of
this key. The private key leaves the masters only through 'chainstore log backup'.`,
	}, cli.AsAdmin, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		k, err := c.AddLogKey(cmd.Context())
		if err != nil {
			return err
		}
		return printLogKey(cmd.OutOrStdout(), k, asJSON)
	})
	cli.AddJSON(cmd, &asJSON, "print one JSON object")
	return cmd
}

func newLogKeyRetireCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "retire KEY-ID",
		Short: "Retire a signing key permanently",
		Long: `Retire a signing key permanently. Its signatures stay valid for verifiers that keep its verifier key.
The private key is deleted from the masters' table. Older raft log entries and snapshots keep it, encrypted under the
cluster token, until they are dropped, and backups keep it. So if a key was stolen, tell all verifiers not to accept
it any more.

The last signing key cannot be retired, nor the last one that the cluster token decrypts: add its successor first.`,
		Args: cli.ExactArgs("one key by its id"),
	}, cli.AsAdmin, 0, func(cmd *cobra.Command, c *client.Client, args []string) error {
		if err := c.RetireLogKey(cmd.Context(), args[0]); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "key %s is retired\n", render.Plain(args[0]))
		return err
	})
}

func newLogCheckpointCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "checkpoint",
		Short: "Print the newest checkpoint, a signed note, without verifying it",
		Long: `Print the newest checkpoint unchanged: a signed note (C2SP tlog-checkpoint) with the log's name, the
size and the root of its tree, and signatures. Nothing is verified: use 'chainstore verify --url' for that.`,
	}, cli.AsAnyone, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		note, err := c.Checkpoint(cmd.Context())
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(note)
		return err
	})
}
