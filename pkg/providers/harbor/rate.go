package harbor

import (
	"fmt"

	"github.com/ocisync/ocisync/schema"
)

// Harbor counts rates in kilobits, of 128 bytes, and errs where there are more bytes
// than fit into 31 bits.
const (
	kilobit = 128
	fastest = schema.Size(1<<31 - kilobit)
)

// rateOf is a rate in Harbor's kilobits as ours in bytes.
func rateOf(speed int64) schema.Size {
	if speed <= 0 {
		return schema.Unlimited
	}
	return schema.Size(speed * kilobit)
}

// speedFor is a rate in Harbor's kilobits, -1 for no limit.
func speedFor(rate schema.Size) int64 {
	if rate <= 0 {
		return -1
	}
	return int64(rate) / kilobit
}

// normalRate is a rate as Harbor has it: in whole kilobits, and 0 is no limit.
func normalRate(n *normal, key schema.Key, field string, want *schema.Size) *schema.Size {
	if want == nil {
		return nil
	}
	rate := *want
	if rate <= 0 {
		return new(schema.Unlimited)
	}
	if rest := rate % kilobit; rest != 0 {
		rate += kilobit - rest
		n.say(key, "%s becomes %s: Harbor counts in kilobits, of 128 bytes, per second", field, rate)
	}
	return &rate
}

// tooFast says of a rate that Harbor cannot have it, or "".
func tooFast(rate *schema.Size) string {
	if of(rate, schema.Unlimited) > fastest {
		return fmt.Sprintf("Harbor limits to less than 2GiB per second, and %s is more; write \"unlimited\"", *rate)
	}
	return ""
}
