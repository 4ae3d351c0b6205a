import { listForWhomever } from "./action";
import { Caller } from "./caller";

/** Hands a cached function to the browser as an action. */
export default function Page() {
  return <Caller list={listForWhomever} />;
}
