import Link from "next/link";

export default function NotFound() {
  return (
    <div className="welcome">
      <h1 className="title">There is no such page.</h1>
      <p className="lead">Or it belongs to an organization that you are not in.</p>
      <p className="actions">
        <Link className="button" href="/">
          Start page
        </Link>
      </p>
    </div>
  );
}
